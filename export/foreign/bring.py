"""Make a bundle of a foreign graph: decide, wrap, prove, write."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from export.foreign.batch import fixed_batch, freed
from export.foreign.choices import Activation, Choices, Options, choose
from export.foreign.compare import channels_of, check_labels_of_pixels, check_width, compare, require_alike
from export.foreign.graph_facts import GraphFacts, last_operator, load_graph, read_facts
from export.foreign.pictures import pictures
from export.foreign.reference import Original, Values, activation_of, prepared
from export.foreign.wrap import wrap
from export.proof.golden import golden_samples
from export.proof.predict import predict
from export.write import check_destination, write, write_checked
from tagmill.bundles.metadata import GOLDEN, WIDEST, BundleSpec, Precision, check_name
from tagmill.errors import BundleError, InputError
from tagmill.tasks.base import Prediction
from worker.inference.session import Session

#: most bytes of the original's answers that are kept to compare with, and the least pictures nevertheless
MEMORY, LEAST = 2**29, 4


@dataclass(frozen=True)
class Imported:
    """The written bundle, how it was understood, and how far it is from the original graph."""

    spec: BundleSpec
    #: what was read or guessed, in words
    notes: tuple[str, ...]
    #: pictures that both were compared on
    pictures: int
    #: largest difference of one score or number of an embedding
    difference: float
    #: share of mask pixels with another label; None for a model without masks
    mask_difference: float | None


def import_bundle(
    graph: Path, out: Path, given: Options, name: str | None = None, samples: Path | None = None
) -> Imported:
    """Write the bundle `out`, which answers as the graph does on pictures. Write nothing if it does not.

    Raise InputError for a graph or options that cannot be used, and BundleError if the bundle answers otherwise.
    """
    check_destination(out)
    check_name(name or out.stem)
    if out.resolve() == graph.resolve():
        raise InputError(f"-o {out}: is the graph itself, which is kept; name another file")
    model = load_graph(graph)
    if any(entry.key == "tagmill" for entry in model.metadata_props):
        raise InputError(f"{graph}: is a bundle already; register it with `tagmill model add`")
    facts = read_facts(model, graph)
    choices = choose(facts, given, graph)
    images = pictures(samples, choices.preprocess)
    one = _answers(model, facts, choices, images[:1], graph)
    images = images[: max(LEAST, MEMORY // sum(values.nbytes for values in one.values()))]
    answers = _answers(model, facts, choices, images, graph)
    check_labels_of_pixels(choices, answers)
    notes = list(choices.guesses)
    activation = Activation.NONE
    if choices.output is not None:
        activation = choices.activation or _activation(model, choices, answers, notes)
    model = _with_free_batch(model, facts, choices, images, notes, graph)
    wrapped = wrap(model, facts, choices, activation)
    spec = _describe(name or out.stem, graph, model, choices, answers, activation)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / out.name
        write(wrapped, spec.to_metadata(), scratch)
        session = Session(scratch, device="cpu")
        found = _predict(session, images)
        difference, mask_difference = compare(choices, answers, activation, found)
        require_alike(difference, mask_difference, spec.precision, len(images))
        golden = golden_samples(session, images, wrapped.ByteSize()).to_text()
    proof = {"images": len(images), "max_difference": difference, "mask_difference": mask_difference}
    spec = replace(spec, provenance=spec.provenance | {"parity": proof})
    write_checked(wrapped, spec.to_metadata() | {GOLDEN: golden}, out)
    return Imported(spec, tuple(notes), len(images), difference, mask_difference)


def _answers(
    model: onnx.ModelProto, facts: GraphFacts, choices: Choices, images: NDArray[np.uint8], graph: Path
) -> Values:
    try:
        return Original(model, facts, choices).run(images)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        reason = str(error).strip().partition("\n")[0][:300]
        raise InputError(f"{graph}: ONNX Runtime {onnxruntime.__version__} does not run it: {reason}") from error


def _predict(session: Session, images: NDArray[np.uint8]) -> Prediction:
    try:
        return predict(session, images)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        reason = str(error).strip().partition("\n")[0][:300]
        raise BundleError(f"the bundle of the graph does not run: {reason}: no bundle written") from error


def _activation(model: onnx.ModelProto, choices: Choices, answers: Values, notes: list[str]) -> Activation:
    raw = answers[str(choices.output)]
    if choices.task.gives_masks and raw.ndim == 3:
        return Activation.NONE  # a label for each pixel
    axis = channels_of(choices, raw)
    found, why = activation_of(raw, last_operator(model, str(choices.output)), choices.task.multilabel, axis)
    notes.append(f"{why}; --activation says otherwise")
    return found


def _with_free_batch(
    model: onnx.ModelProto,
    facts: GraphFacts,
    choices: Choices,
    images: NDArray[np.uint8],
    notes: list[str],
    graph: Path,
) -> onnx.ModelProto:
    fixed = fixed_batch(model, facts.image.name)
    if not fixed:
        return model
    free = freed(model, facts.image.name, prepared(images[:1], facts, choices))
    count = f"{fixed} image{'s' if fixed > 1 else ''} at a time"
    if free is None:
        raise InputError(
            f"{graph}: was exported for {count}, and its layers allow no other number; export it again with a free "
            "first side (dynamic_axes or dynamic_shapes of torch.onnx.export)"
        )
    notes.append(f"it was exported for {count}, and takes any number now")
    return free


def _describe(
    name: str, graph: Path, model: onnx.ModelProto, choices: Choices, answers: Values, activation: Activation
) -> BundleSpec:
    if choices.output is not None:
        check_width(choices, answers[choices.output])
    width = 0
    if choices.embedding is not None:
        width = int(np.prod(answers[choices.embedding].shape[1:]))
        if width > WIDEST:
            raise InputError(
                f"--embedding {choices.embedding}: has {width} numbers, and at most {WIDEST} are stored; name a "
                "narrower output, such as one behind a projection"
            )
    how = {
        "layout": str(choices.layout),
        "scale": choices.scale,
        "mean": list(choices.mean),
        "std": list(choices.std),
        "bgr": choices.bgr,
        "activation": str(activation),
        "output": choices.output,
        "embedding": choices.embedding,
    }
    return BundleSpec(
        name=name,
        task=choices.task,
        labels=choices.labels,
        preprocess=choices.preprocess,
        background=choices.task.background(choices.labels),
        precision=_precision(model),
        embedding=width,
        provenance={
            "recipe": "import",
            "arch": graph.name,
            "imported_as": how,
            "exported_with": {"producer": f"{model.producer_name} {model.producer_version}".strip(),
                              "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        },
    )  # fmt: skip


def _precision(model: onnx.ModelProto) -> Precision:
    if any(
        node.op_type in {"QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear"} for node in model.graph.node
    ):
        return Precision.INT8
    kinds = {entry.data_type for entry in model.graph.initializer}
    kinds |= {entry.type.tensor_type.elem_type for entry in [*model.graph.input, *model.graph.output]}
    half = TensorProto.FLOAT16 in kinds
    return Precision.FP16 if half else Precision.FP32

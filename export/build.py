"""Write the bundle of a training run: graph, proof, golden samples, metadata, one file."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from torch import nn

from export.graph.svm_graph import build_svc_graph
from export.graph.torch_graph import OPSET, build_graph
from export.precision.reduce import Comparison, reduce
from export.proof.golden import golden_samples
from export.proof.parity import Parity, compare, torch_reference
from export.proof.sample_images import labeled_pictures, sample_pictures, seed_of
from tagmill.bundles.spec import GOLDEN, BundleSpec, Precision, check_name
from tagmill.cli.progress import Display
from tagmill.errors import BundleError, InputError
from tagmill.files import atomic_write
from training.annotations.folders import short_name
from training.checkpoint import Checkpoint, load
from training.models.svm import SupportVectors
from worker.inference.session import Session


@dataclass(frozen=True)
class Exported:
    """What was written, how far it is from its origin, and what fewer bits cost."""

    spec: BundleSpec
    parity: Parity
    #: None for fp32
    comparison: Comparison | None
    #: size of the file as a share of that in fp32
    size_ratio: float


def export_bundle(
    run: Path,
    out: Path,
    name: str | None = None,
    samples: Path | None = None,
    precision: Precision = Precision.FP32,
    top_k: int = 0,
    display: Display | None = None,
) -> Exported:
    """Write `out` from the checkpoint of `run`, proven on real images; nothing is written where a proof fails."""
    checkpoint = load(run)
    _check_destination(out)
    check_name(name or out.stem)
    _check_top_k(checkpoint, top_k)
    _check_precision(checkpoint, precision)
    images = sample_pictures(checkpoint, samples)
    spec = describe(checkpoint, name or out.stem)
    network = checkpoint.network()
    whole = _graph_of(network, spec, top_k)
    reference = torch_reference(network, spec)
    with tempfile.TemporaryDirectory() as folder:
        opened = _opener(spec, Path(folder) / out.name)
        parity = compare(opened(whole, Precision.FP32), reference, images)
        parity.check()
        graph, comparison = whole, None
        if precision is not Precision.FP32:
            data = labeled_pictures(checkpoint, display or Display())
            graph, comparison = reduce(whole, precision, data, seed_of(checkpoint), opened)
            spec = replace(spec, precision=precision)
            parity = compare(opened(graph, precision), reference, images)
        golden = golden_samples(opened(graph, precision), images, whole.ByteSize()).to_text()
    rest = len(golden) + sum(map(len, spec.to_metadata().values()))
    ratio = round((graph.ByteSize() + rest) / (whole.ByteSize() + rest), 3)
    proven = _with_proof(spec, parity, comparison, ratio)
    _put(graph, proven.to_metadata() | {GOLDEN: golden}, out)
    return Exported(proven, parity, comparison, ratio)


def _graph_of(network: nn.Module, spec: BundleSpec, top_k: int) -> onnx.ModelProto:
    if isinstance(network, SupportVectors):
        return build_svc_graph(network, spec, top_k)
    return build_graph(network, spec, top_k)


def describe(checkpoint: Checkpoint, name: str) -> BundleSpec:
    """Return what the bundle says of itself. Of folders only the last two names go into it."""
    folders = {use: [short_name(Path(folder)) for folder in named] for use, named in checkpoint.data.items() if named}
    return BundleSpec(
        name=name,
        task=checkpoint.task,
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        background=checkpoint.task.background(checkpoint.labels),
        temperature=checkpoint.temperature,
        thresholds=checkpoint.thresholds,
        metrics=checkpoint.metrics,
        provenance={
            "recipe": checkpoint.recipe,
            "arch": str(checkpoint.arch),
            "epoch": checkpoint.epoch,
            "hyperparameters": checkpoint.hyperparameters,
            "data": folders,
            "trained_with": checkpoint.versions,
            "exported_with": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "opset": OPSET},
        },
    )


def _with_proof(spec: BundleSpec, parity: Parity, comparison: Comparison | None, ratio: float) -> BundleSpec:
    found: dict[str, Any] = {"parity": asdict(parity)}
    if comparison is not None:
        found["precision"] = comparison.to_dict() | {"size_ratio": ratio}
    return replace(spec, provenance=spec.provenance | found)


def _opener(spec: BundleSpec, path: Path) -> Callable[[onnx.ModelProto, Precision], Session]:
    def opened(model: onnx.ModelProto, precision: Precision) -> Session:
        _write(model, replace(spec, precision=precision).to_metadata(), path)
        return Session(path, device="cpu")

    return opened


def _put(graph: onnx.ModelProto, metadata: dict[str, str], out: Path) -> None:
    with atomic_write(out) as temporary:
        _write(graph, metadata, temporary)
        # `out` is replaced only by a file that the production session has opened and checked.
        Session(temporary, device="cpu")


def _write(model: onnx.ModelProto, metadata: dict[str, str], path: Path) -> None:
    onnx.helper.set_model_props(model, metadata)
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise BundleError(f"{path.parent}: {error.strerror or error}; name another -o") from error


def _check_destination(out: Path) -> None:
    if out.suffix != ".onnx":
        raise InputError(f"{out}: a bundle's name ends in .onnx")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name the file to write with -o, or remove the folder")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: is not a folder; create it or name another -o")


def _check_precision(checkpoint: Checkpoint, precision: Precision) -> None:
    if checkpoint.recipe == "svc" and precision is not Precision.FP32:
        raise InputError(f"--precision {precision}: a run of `train svc` is exported in fp32 alone")


def _check_top_k(checkpoint: Checkpoint, top_k: int) -> None:
    if top_k and checkpoint.task.gives_masks:
        raise InputError("--top-k picks the best labels of an image; a segmenter gives a label for each pixel")
    if top_k >= len(checkpoint.labels):
        raise InputError(f"--top-k {top_k}: the run has {len(checkpoint.labels)} labels, so it must be below that")

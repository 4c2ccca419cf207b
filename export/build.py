"""Write the bundle of a training run: graph, metadata and golden samples in one file, after parity is proven."""

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from torch import nn

from export.graph.activation_map import FeatureMap, find_feature_map
from export.graph.embedding import Projection, fit_projection
from export.graph.svm_graph import build_svc_graph
from export.graph.torch_graph import OPSET, build_graph
from export.precision.reduce import Comparison, OpenSession, reduce_precision
from export.proof.golden import golden_samples
from export.proof.parity import Parity, check_activation_map, check_embedding, compare, torch_reference
from export.proof.sample_images import labeled_images, sample_images, training_images
from export.write import check_destination, write, write_checked
from tagmill.bundles.metadata import GOLDEN, WIDEST, BundleSpec, Precision, check_name
from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from training.annotations.folders import short_name
from training.checkpoint import Checkpoint, load
from training.models.svm import SupportVectors
from worker.inference.session import Session

#: images that show where a network averages its features
PROBED = 4


@dataclass(frozen=True)
class ExportResult:
    """The written bundle, its parity with torch, and what a lower precision loses."""

    spec: BundleSpec
    parity: Parity
    #: None for fp32
    comparison: Comparison | None
    #: size of the file relative to fp32
    size_ratio: float


def export_bundle(
    run: Path,
    out: Path,
    name: str | None = None,
    samples: Path | None = None,
    precision: Precision = Precision.FP32,
    top_k: int = 0,
    embedding: int = 0,
    activation_map: bool = False,
    display: Display | None = None,
) -> ExportResult:
    """Write the checkpoint of `run` as the bundle `out`, proven on real images. Write nothing if a proof fails.

    `samples` is a folder of images to use instead of the run's own; `embedding` is the width of the output of that
    name, 0 for none; `activation_map` adds that output. Raise InputError for options that the run does not allow, and
    BundleError if the graph differs from torch or a lower precision loses too much.
    """
    checkpoint = load(run)
    check_destination(out)
    check_name(name or out.stem)
    _check_top_k(checkpoint, top_k)
    _check_precision(checkpoint, precision)
    _check_embedding(checkpoint, embedding)
    _check_activation_map(checkpoint, activation_map)
    images = sample_images(checkpoint, samples)
    spec = replace(describe(checkpoint, name or out.stem), embedding=embedding, activation_map=activation_map)
    network = checkpoint.network()
    projection = None
    if embedding:
        projection = fit_projection(network, training_images(checkpoint, samples), embedding, checkpoint.seed)
    place = find_feature_map(network, images[:PROBED]) if activation_map else None
    fp32_graph = _build_graph(network, spec, top_k, projection, place)
    reference = torch_reference(network, spec)
    with tempfile.TemporaryDirectory() as folder:
        open_session = _session_opener(spec, Path(folder) / out.name)
        parity = compare(open_session(fp32_graph, Precision.FP32), reference, images)
        parity.check()
        if projection:
            check_embedding(open_session(fp32_graph, Precision.FP32), network, projection, images)
        if place:
            check_activation_map(open_session(fp32_graph, Precision.FP32), network, place, images)
        graph, comparison = fp32_graph, None
        if precision is not Precision.FP32:
            data = labeled_images(checkpoint, display or Display())
            graph, comparison = reduce_precision(fp32_graph, precision, data, checkpoint.seed, open_session)
            spec = replace(spec, precision=precision)
            parity = compare(open_session(graph, precision), reference, images)
        golden = golden_samples(open_session(graph, precision), images, fp32_graph.ByteSize()).to_text()
    metadata_bytes = len(golden) + sum(map(len, spec.to_metadata().values()))
    ratio = round((graph.ByteSize() + metadata_bytes) / (fp32_graph.ByteSize() + metadata_bytes), 3)
    proven = _with_proof(spec, parity, comparison, ratio)
    write_checked(graph, proven.to_metadata() | {GOLDEN: golden}, out)
    return ExportResult(proven, parity, comparison, ratio)


def _build_graph(
    network: nn.Module, spec: BundleSpec, top_k: int, embedding: Projection | None, place: FeatureMap | None
) -> onnx.ModelProto:
    if isinstance(network, SupportVectors):
        return build_svc_graph(network, spec, top_k)
    return build_graph(network, spec, top_k, embedding, place)


def describe(checkpoint: Checkpoint, name: str) -> BundleSpec:
    """Return the description that the bundle carries. It names only the last two parts of each folder."""
    folders = {use: [short_name(Path(path)) for path in paths] for use, paths in checkpoint.data.items() if paths}
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
    proof: dict[str, Any] = {"parity": asdict(parity)}
    if comparison is not None:
        proof["precision"] = comparison.to_dict() | {"size_ratio": ratio}
    return replace(spec, provenance=spec.provenance | proof)


def _session_opener(spec: BundleSpec, path: Path) -> OpenSession:
    """Return a function that writes a graph to `path` as a bundle and loads it as a worker does, on the CPU."""

    def open_session(model: onnx.ModelProto, precision: Precision) -> Session:
        write(model, replace(spec, precision=precision).to_metadata(), path)
        return Session(path, device="cpu")

    return open_session


def _check_precision(checkpoint: Checkpoint, precision: Precision) -> None:
    if checkpoint.recipe == "svc" and precision is not Precision.FP32:
        raise InputError(f"--precision {precision}: a run of `train svc` is exported in fp32 alone")


def _check_embedding(checkpoint: Checkpoint, width: int) -> None:
    if width and (checkpoint.task.gives_masks or checkpoint.recipe == "svc"):
        raise InputError("--embedding is what a classifier's last linear layer reads; a segmenter and an SVC have none")
    if width > WIDEST:
        raise InputError(f"--embedding {width}: at most {WIDEST} numbers are stored")


def _check_activation_map(checkpoint: Checkpoint, wanted: bool) -> None:
    if wanted and (checkpoint.task.gives_masks or checkpoint.recipe == "svc"):
        raise InputError("--activation-map is of a classifier's last feature map; a segmenter and an SVC have none")


def _check_top_k(checkpoint: Checkpoint, top_k: int) -> None:
    if top_k and checkpoint.task.gives_masks:
        raise InputError("--top-k picks the best labels of an image; a segmenter gives a label for each pixel")
    if top_k >= len(checkpoint.labels):
        raise InputError(f"--top-k {top_k}: the run has {len(checkpoint.labels)} labels, so it must be below that")

"""From a checkpoint to the ONNX graph of a bundle: uint8 images in, scores and masks out."""

import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from tagmill.bundles.spec import INPUT, BundleSpec
from tagmill.errors import BundleError
from tagmill.tasks.base import MASK, SCORES, TOP_LABELS, TOP_SCORES, Task

#: what ONNX Runtime 1.23 and newer read
OPSET = 20


def pixels(images: Tensor) -> Tensor:
    """Return uint8 [N, H, W, 3] as float32 [N, 3, H, W], in an order of memory that torch needs no word for in ONNX."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


class ClassifyGraph(nn.Module):
    """Normalize, infer, divide by the temperature, softmax or sigmoid; with `top_k` the best labels, too."""

    def __init__(self, network: nn.Module, task: Task, temperature: float, top_k: int) -> None:
        super().__init__()
        self.network = network
        self.multilabel = task.multilabel
        self.temperature = temperature
        self.top_k = top_k

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits: Tensor = self.network(pixels(images)) / self.temperature
        scores = logits.sigmoid() if self.multilabel else logits.softmax(1)
        # ONNX's TopK puts the first of equal scores first, as a stable sort does.
        return (scores, *scores.topk(self.top_k)) if self.top_k else (scores,)


class SegmentGraph(nn.Module):
    """Normalize, infer, and give each pixel's label with each label's mean probability over its own pixels."""

    def __init__(self, network: nn.Module, labels: int, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.network(pixels(images)) / self.temperature
        mask = logits.argmax(1)
        # The probability of the strongest label alone: no softmax over all labels has to be stored.
        top = 1.0 / (logits - logits.amax(1, keepdim=True)).exp().sum(1)
        # Each pixel is added to its own label, which for many labels is far less work than a mask for each of them.
        # First row by row: a float32 that has grown large takes no small values.
        nothing = torch.zeros(images.shape[0], images.shape[1], self.labels)
        sums = nothing.scatter_add(2, mask, top).sum(1)
        areas = nothing.scatter_add(2, mask, torch.ones_like(top)).sum(1)
        return mask.to(torch.uint8), sums / areas.clamp_min(1.0)


def build_graph(network: nn.Module, spec: BundleSpec, top_k: int = 0) -> onnx.ModelProto:
    """Return the graph with a free batch size; the same weights give the same bytes."""
    if spec.task.gives_masks:
        graph: nn.Module = SegmentGraph(network, len(spec.labels), spec.temperature)
        outputs = [MASK, SCORES]
    else:
        graph = ClassifyGraph(network, spec.task, spec.temperature, top_k)
        outputs = [SCORES, TOP_SCORES, TOP_LABELS] if top_k else [SCORES]
    # In training mode batch normalization would be exported with the statistics of the example.
    graph.eval()
    # torch.export takes an example batch of 1 as "always 1".
    example = torch.zeros(2, spec.preprocess.height, spec.preprocess.width, 3, dtype=torch.uint8)
    try:
        program = export_module(graph, example, outputs)
    except Exception as error:  # torch.onnx raises many kinds without a common base
        raise BundleError(f"torch cannot export this network: {str(error).splitlines()[0]}") from error
    return anonymous(program.model_proto)


def export_module(graph: nn.Module, example: Tensor, outputs: list[str]) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exporter = logging.getLogger("torch.onnx")
        level = exporter.level
        exporter.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        finally:
            exporter.setLevel(level)
    if program is None:
        raise BundleError("torch returned no program")
    return program


def anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out what names the machine: stack traces and source paths, and shapes that no session needs."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version = "tagmill", ""
    model.graph.name = "tagmill"
    entries = [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    for entry in [*entries, *model.functions]:
        entry.doc_string = ""
        del entry.metadata_props[:]
    return model

"""From a checkpoint to the ONNX graph of a bundle: uint8 pictures in, scores and masks out."""

import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from tagmill.bundle import INPUT, MASK, SCORES, Task
from tagmill.errors import BundleError
from tagmill.preprocess import PreprocessSpec

#: what ONNX Runtime 1.23 and newer read
OPSET = 20


class ClassifyGraph(nn.Module):
    """Normalise, infer, softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.permute(0, 3, 1, 2).float())
        return logits.softmax(1)


class SegmentGraph(nn.Module):
    """Normalise, infer, and give each pixel's label with each label's mean probability over its own pixels."""

    def __init__(self, network: nn.Module, labels: int) -> None:
        super().__init__()
        self.network = network
        self.numbers: Tensor
        self.register_buffer("numbers", torch.arange(labels).view(1, labels, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.network(images.permute(0, 3, 1, 2).float())
        mask = logits.argmax(1, keepdim=True)
        # The probability of the strongest label: no softmax over all labels has to be stored.
        top = 1.0 / (logits - logits.amax(1, keepdim=True)).exp().sum(1, keepdim=True)
        own = (mask == self.numbers).float()
        scores = (own * top).sum((2, 3)) / own.sum((2, 3)).clamp_min(1.0)
        return mask[:, 0].to(torch.uint8), scores


def build_graph(network: nn.Module, task: Task, labels: int, spec: PreprocessSpec) -> onnx.ModelProto:
    """Return the graph with a free batch size; the same weights give the same bytes."""
    graph = ClassifyGraph(network) if task is Task.CLASSIFY else SegmentGraph(network, labels)
    # In training mode batch normalisation would be exported with the statistics of the example.
    graph.eval()
    # torch.export takes an example batch of 1 as "always 1".
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    try:
        program = _export(graph, example, [SCORES] if task is Task.CLASSIFY else [MASK, SCORES])
    except Exception as error:  # torch.onnx raises many kinds without a common base
        raise BundleError(f"torch cannot export this network: {str(error).splitlines()[0]}") from error
    return _anonymous(program.model_proto)


def _export(graph: nn.Module, example: Tensor, outputs: list[str]) -> torch.onnx.ONNXProgram:
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


def _anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
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

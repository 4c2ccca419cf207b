"""Build the ONNX graph of a bundle from a torch network: uint8 images in, scores and masks out."""

import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from export.graph.activation_map import FeatureMap, Localized
from export.graph.embedding import Embedded, Projection
from tagmill.bundles.metadata import INPUT, BundleSpec
from tagmill.errors import BundleError
from tagmill.tasks.base import ACTIVATION_MAP, EMBEDDING, MASK, SCORES, TOP_LABELS, TOP_SCORES, Task

#: opset of the graph; ONNX Runtime 1.23 and newer read it
OPSET = 20


def pixels(images: Tensor) -> Tensor:
    """Return uint8 [N, H, W, 3] as float32 [N, 3, H, W].

    It is contiguous, because ONNX has no memory formats.
    """
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


class ClassifyGraph(nn.Module):
    """From images to softmax or sigmoid scores at the bundle's temperature.

    With `top_k` it also gives the best labels, with `embedding` an embedding, with `place` an activation map.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        temperature: float,
        top_k: int,
        embedding: Projection | None,
        place: FeatureMap | None,
    ) -> None:
        super().__init__()
        embedded = Embedded(network, embedding) if embedding else network
        self.network = Localized(embedded, place) if place else embedded
        self.multilabel = task.multilabel
        self.temperature = temperature
        self.top_k = top_k

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.network(pixels(images))
        logits, *further = found if isinstance(found, tuple) else (found,)
        logits = logits / self.temperature
        scores = logits.sigmoid() if self.multilabel else logits.softmax(1)
        # ONNX's TopK puts the first of equal scores first, as a stable sort does.
        best = scores.topk(self.top_k) if self.top_k else ()
        return (scores, *best, *further)


class SegmentGraph(nn.Module):
    """From images to a label per pixel, and the mean probability of each label over its own pixels."""

    def __init__(self, network: nn.Module, labels: int, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.network(pixels(images)) / self.temperature
        mask = logits.argmax(1)
        # Only the probability of the best label: the softmax over all labels need not be stored.
        top = 1.0 / (logits - logits.amax(1, keepdim=True)).exp().sum(1)
        # Adding each pixel to its own label is far less work than one mask per label if there are many labels.
        # Each row is summed first: a small value added to a large float32 is lost.
        zeros = torch.zeros(images.shape[0], images.shape[1], self.labels)
        sums = zeros.scatter_add(2, mask, top).sum(1)
        areas = zeros.scatter_add(2, mask, torch.ones_like(top)).sum(1)
        return mask.to(torch.uint8), sums / areas.clamp_min(1.0)


def build_graph(
    network: nn.Module,
    spec: BundleSpec,
    top_k: int = 0,
    embedding: Projection | None = None,
    place: FeatureMap | None = None,
) -> onnx.ModelProto:
    """Return the graph, with a free batch size. The same weights give the same bytes.

    `embedding` gives a classifier's graph the output of that name, and `place` an activation map.
    """
    if spec.task.gives_masks:
        graph: nn.Module = SegmentGraph(network, len(spec.labels), spec.temperature)
        outputs = [MASK, SCORES]
    else:
        graph = ClassifyGraph(network, spec.task, spec.temperature, top_k, embedding, place)
        outputs = [SCORES, *([TOP_SCORES, TOP_LABELS] if top_k else [])]
        outputs += [*([EMBEDDING] if embedding else []), *([ACTIVATION_MAP] if place else [])]
    # In training mode batch normalization would use the statistics of the example.
    graph.eval()
    # torch.export would take an example batch of 1 for a fixed size.
    example = torch.zeros(2, spec.preprocess.height, spec.preprocess.width, 3, dtype=torch.uint8)
    try:
        program = export_module(graph, example, outputs)
    except Exception as error:  # torch.onnx raises exceptions without a common base
        raise BundleError(f"torch cannot export this network: {str(error).splitlines()[0]}") from error
    return anonymous(program.model_proto)


def export_module(graph: nn.Module, example: Tensor, outputs: list[str]) -> torch.onnx.ONNXProgram:
    """Return the exported module, with a free batch size and without torch's warnings. Raise what torch raises."""
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
    """Remove what reveals the machine, which is stack traces and source paths, and the inferred shapes."""
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

"""What the original graph answers, computed apart from the bundle: pixels prepared by NumPy, scores made by NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.foreign.batch import copy_of, fixed_batch, open_original
from export.foreign.choices import Activation, Choices
from export.foreign.graph_facts import INPUT_TYPES, GraphFacts, Layout

Values = Mapping[str, NDArray[Any]]


def prepared(images: NDArray[np.uint8], facts: GraphFacts, choices: Choices) -> NDArray[Any]:
    """Return uint8 [N, H, W, 3] RGB as the original graph takes it."""
    pixels = images[..., ::-1] if choices.bgr else images
    kind = INPUT_TYPES[facts.image.kind]
    if kind != "uint8":
        levels = pixels.astype(np.float64) * choices.scale
        pixels = ((levels - np.array(choices.mean)) / np.array(choices.std)).astype(kind)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if choices.layout is Layout.NCHW else pixels)


class Original:
    """The graph as it was given."""

    def __init__(self, model: onnx.ModelProto, facts: GraphFacts, choices: Choices) -> None:
        """Open it with a further output for an embedding that is an inner value. Raise what ONNX Runtime raises."""
        graph = copy_of(model)
        if choices.embedding and choices.embedding not in {entry.name for entry in graph.graph.output}:
            graph.graph.output.append(onnx.ValueInfoProto(name=choices.embedding))
        self._session = open_original(graph)
        self._facts, self._choices = facts, choices
        self._fixed = fixed_batch(model, facts.image.name)

    def run(self, images: NDArray[np.uint8]) -> Values:
        """Return the outputs for uint8 [N, H, W, 3] RGB, N of any size."""
        pixels, parts = prepared(images, self._facts, self._choices), []
        names = [entry.name for entry in self._session.get_outputs()]
        size = self._fixed or len(pixels)
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append([found[: len(part)] for found in self._session.run(names, {self._facts.image.name: padded})])
        return {name: np.concatenate(found) for name, found in zip(names, zip(*parts, strict=True), strict=True)}


def scores_of(raw: NDArray[Any], activation: Activation, axis: int = 1) -> NDArray[np.float64]:
    """Return scores from 0 to 1 for the original's output."""
    values = raw.astype(np.float64)
    if activation is Activation.NONE:
        return values
    if activation is Activation.SIGMOID:
        return np.asarray(1 / (1 + np.exp(-np.clip(values, -80, 80))))
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def activation_of(raw: NDArray[Any], operator: str, multilabel: bool, axis: int = 1) -> tuple[Activation, str]:
    """Return what the outputs lack to be scores, and why it is thought so, in words.

    `operator` is the graph's last one. Outputs from 0 to 1 of which those of an image add up to 1 are scores already.
    """
    if operator in {"Softmax", "Sigmoid"}:
        return Activation.NONE, f"the graph ends in {operator}, so its outputs are scores already"
    values = raw.astype(np.float64)
    inside = bool(((values >= -1e-3) & (values <= 1 + 1e-3)).all())
    if inside and bool((np.abs(values.sum(axis=axis) - 1) < 0.01).all()):
        return Activation.NONE, "its outputs add up to 1 for each image, so they are scores already"
    chosen = Activation.SIGMOID if multilabel else Activation.SOFTMAX
    return chosen, f"its outputs are logits ({values.min():.3g} to {values.max():.3g}), so they get a {chosen}"


def mask_of(raw: NDArray[Any], choices: Choices) -> NDArray[np.uint8]:
    """Return the label of each pixel, uint8 [N, height, width], for a segmenter's output.

    It is scaled up by OpenCV, bilinear from pixel centers.
    """
    if raw.ndim == 3:
        return raw.astype(np.uint8)
    import cv2

    planes = raw if choices.layout is Layout.NHWC else raw.transpose(0, 2, 3, 1)
    size = (choices.preprocess.width, choices.preprocess.height)
    channels = np.ascontiguousarray(planes, np.float32)
    scaled = [
        np.stack([cv2.resize(image[..., label], size, interpolation=cv2.INTER_LINEAR)
                  for label in range(image.shape[2])], axis=2)
        for image in channels
    ]  # fmt: skip
    return np.asarray(np.stack(scaled).argmax(axis=3).astype(np.uint8))

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
#: images of one call: 200 at once would need gigabytes
BATCH = 16


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
        size = self._fixed or BATCH
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            missing = self._fixed - len(part) if self._fixed else 0
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
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


def pixels_of(
    raw: NDArray[Any], choices: Choices, activation: Activation
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the label of each pixel, uint8 [N, height, width], and each label's mean score over its own, [N, labels].

    Scores of pixels are scaled up by OpenCV, bilinear from pixel centers, one image after the other. A label of an
    output that is labels already has the score 1.
    """
    masks, means = [], []
    for image in raw:
        if image.ndim == 2:
            mask, best = image.astype(np.int64), np.ones(image.shape)
        else:
            mask, best = _best_label(image, choices, activation)
        areas = np.bincount(mask.ravel(), minlength=len(choices.labels))
        sums = np.bincount(mask.ravel(), best.ravel(), minlength=len(choices.labels))
        masks.append(mask.astype(np.uint8))
        means.append(sums / np.maximum(areas, 1))
    return np.stack(masks), np.stack(means)


def _best_label(
    image: NDArray[Any], choices: Choices, activation: Activation
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the best label of each pixel and its score, both [height, width]."""
    import cv2

    planes = image.transpose(2, 0, 1) if choices.layout is Layout.NHWC else image
    size = (choices.preprocess.width, choices.preprocess.height)
    scaled = np.stack([cv2.resize(np.ascontiguousarray(plane, np.float32), size) for plane in planes])
    return np.asarray(scaled.argmax(axis=0)), scores_of(scaled, activation, axis=0).max(axis=0)

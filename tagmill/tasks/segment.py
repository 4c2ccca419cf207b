"""`segment`: a label per pixel in `mask`; `scores` is each label's mean probability over its own pixels, else 0."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.records import Mask
from tagmill.tasks.base import MASK, SCORES, Described, Headline, Labels, Measured, Prediction, Task
from tagmill.tasks.masks import encode_masks
from tagmill.tasks.metrics import mask_confusion, segmentation, shares

#: the label that is not stored as a mask
BACKGROUND = "background"


class Segment(Task):
    """A label per pixel."""

    name = "segment"
    summary = "labels every pixel of an image"
    outputs = (MASK, SCORES)
    gives_masks = True
    #: a mask is uint8
    most_labels = 256
    headline = "mean_iou"
    label_figure = "IoU"
    unit = "pixels"

    def prediction(self, outputs: Mapping[str, NDArray[Any]]) -> Prediction:
        return Prediction(outputs[SCORES], outputs[MASK])

    def wanted_outputs(self, top_k: int) -> list[str]:
        return [SCORES, MASK]

    def rows(
        self, bundle: Described, prediction: Prediction, number: int, width: int, height: int
    ) -> tuple[Labels, tuple[Mask, ...]]:
        index, scores = _mask_of(prediction)[number], prediction.scores[number].tolist()
        return (), encode_masks(index, scores, bundle.labels, bundle.background, bundle.preprocess, width, height)

    def main_labels(self, prediction: Prediction) -> NDArray[np.int64]:
        # The first label is the background as a rule: an image stands for the largest of the others.
        labels = prediction.scores.shape[1]
        areas = np.stack([np.bincount(mask.ravel(), minlength=labels) for mask in _mask_of(prediction)])
        return np.asarray(areas[:, 1:].argmax(axis=1) + 1)

    def difference(self, expected: Prediction, found: Prediction) -> tuple[float, str]:
        return float((_mask_of(expected) != _mask_of(found)).mean()), "of the mask pixels"

    def columns(self, model: str) -> tuple[str, ...]:
        return (f"{model}.masks",)

    def values(self, labels: Sequence[tuple[str, float]], masks: Sequence[Any]) -> tuple[str, ...]:
        return (" ".join(f"{found.label}:{found.area_share:.4f}" for found in masks),)

    def tally(self, labels: Sequence[str]) -> "PixelTally":
        return PixelTally(labels)

    def headlines(
        self, measured: Mapping[str, Any], labels: int, shown: str, ece_before: float | None
    ) -> list[Headline]:
        return [
            Headline("mean IoU", f"{measured['mean_iou']:.3f}", shown),
            Headline("pixels right", f"{measured['pixel_accuracy']:.1%}"),
        ]

    def certainty(self, labels: Sequence[tuple[str, float]], masks: Sequence[Mask]) -> float | None:
        # The mean probability over the pixels of all masks.
        area = sum(found.area_share for found in masks)
        return sum(found.score * found.area_share for found in masks) / area if area else None

    def background(self, labels: Sequence[str]) -> str | None:
        return BACKGROUND if BACKGROUND in labels else None


class PixelTally:
    """How many pixels of each label were given each label, over all calls."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._table = np.zeros((len(labels), len(labels)), dtype=np.int64)
        self._images = 0

    def add(self, prediction: Prediction, targets: NDArray[Any]) -> None:
        """Add the masks of some images; targets are uint8 [N, H, W], 255 is ignored."""
        self._table += mask_confusion(_mask_of(prediction), targets, len(self._labels))
        self._images += len(targets)

    def measured(self) -> Measured:
        """Return the figures of all pixels that were added."""
        figures = segmentation(self._table, self._labels, self._images)
        right = np.diag(self._table)
        precision, recall = shares(right, self._table.sum(axis=0)), shares(right, self._table.sum(axis=1))
        return Measured(figures, figures["per_class_iou"], self._table, precision, recall)


def _mask_of(prediction: Prediction) -> NDArray[np.uint8]:
    assert prediction.mask is not None, "a segmenter gives masks"
    return prediction.mask


TASK = SEGMENT = Segment()

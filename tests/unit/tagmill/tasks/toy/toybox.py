"""`toybox`: one box for each label. A whole task in one file; `test_base.py` tags images with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from tagmill.records import Mask
from tagmill.tasks.base import SCORES, Described, Headline, Labels, Measured, Prediction, Task

#: int64 [N, labels, 4]: left, top, right, bottom in pixels of the model's input
BOXES = "boxes"
#: score from which on a label counts as shown
SHOWN = 0.5


@dataclass(frozen=True)
class Boxes(Prediction):
    """Scores float32 [N, labels] and, for each label, one box."""

    boxes: NDArray[np.int64] | None = None

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        return cls(np.concatenate([part.scores for part in parts]), boxes=np.concatenate([_of(part) for part in parts]))

    def at(self, chosen: "slice | NDArray[np.int64]") -> "Boxes":
        return Boxes(self.scores[chosen], boxes=_of(self)[chosen])


class ToyBox(Task):
    """A box for each label."""

    name = "toybox"
    summary = "puts a box around what it names"
    outputs = (SCORES, BOXES)
    headline = "mean_overlap"
    label_figure = "overlap"

    def prediction(self, outputs: Mapping[str, NDArray[Any]]) -> Prediction:
        return Boxes(outputs[SCORES], boxes=outputs[BOXES])

    def wanted_outputs(self, top_k: int) -> list[str]:
        return [SCORES, BOXES]

    def rows(
        self, bundle: Described, prediction: Prediction, number: int, width: int, height: int
    ) -> tuple[Labels, tuple[Mask, ...]]:
        shown = np.flatnonzero(prediction.scores[number] >= SHOWN)
        return (), tuple(self._row(bundle, prediction, number, int(label), width, height) for label in shown)

    def _row(self, bundle: Described, prediction: Prediction, number: int, label: int, width: int, height: int) -> Mask:
        left, top, right, bottom = _of(prediction)[number, label].tolist()
        area = np.zeros((bundle.preprocess.height, bundle.preprocess.width), dtype=np.uint8, order="F")
        area[top:bottom, left:right] = 1
        across, down = width / area.shape[1], height / area.shape[0]
        return Mask(
            label=bundle.labels[label],
            rle=coco.encode(area)["counts"].decode("ascii"),
            height=area.shape[0],
            width=area.shape[1],
            area_share=float(area.mean()),
            box=(left * across, top * down, right * across, bottom * down),
            score=float(prediction.scores[number, label]),
        )

    def main_labels(self, prediction: Prediction) -> NDArray[np.int64]:
        return np.asarray(prediction.scores.argmax(axis=1))

    def difference(self, expected: Prediction, found: Prediction) -> tuple[float, str]:
        # Golden samples hold scores and masks, but no boxes.
        return float(np.abs(expected.scores - found.scores).max()), "in a score"

    def columns(self, model: str) -> tuple[str, ...]:
        return (f"{model}.boxes",)

    def values(self, labels: Sequence[tuple[str, float]], masks: Sequence[Any]) -> tuple[str, ...]:
        return (" ".join(f"{found.label}:{','.join(f'{side:g}' for side in found.box)}" for found in masks),)

    def tally(self, labels: Sequence[str]) -> "OverlapTally":
        return OverlapTally(labels)

    def headlines(
        self, measured: Mapping[str, Any], labels: int, shown: str, ece_before: float | None
    ) -> list[Headline]:
        return [Headline("mean overlap", f"{measured['mean_overlap']:.3f}", shown)]


class OverlapTally:
    """The overlap (IoU) of the predicted and the true boxes; targets are int64 [N, labels, 4]."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._overlaps: list[NDArray[np.float64]] = []

    def add(self, prediction: Prediction, targets: NDArray[Any]) -> None:
        found = _of(prediction)
        sides = np.minimum(found[..., 2:], targets[..., 2:]) - np.maximum(found[..., :2], targets[..., :2])
        common = sides.clip(0).prod(axis=-1)
        areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (found, targets)]
        self._overlaps.append(common / (areas[0] + areas[1] - common))

    def measured(self) -> Measured:
        overlaps = np.concatenate(self._overlaps)
        by_label = dict(zip(self._labels, overlaps.mean(axis=0).tolist(), strict=True))
        nothing: list[float | None] = [None] * len(self._labels)
        figures = {"mean_overlap": float(overlaps.mean()), "images": len(overlaps), "per_label": by_label}
        return Measured(figures, by_label, None, nothing, nothing)


def _of(prediction: Prediction) -> NDArray[np.int64]:
    assert isinstance(prediction, Boxes), "this task predicts boxes"
    assert prediction.boxes is not None, "a graph gives boxes"
    return prediction.boxes


TASK = ToyBox()

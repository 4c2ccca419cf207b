"""What a run's figures, page and card tell of its test images: label by label, and mix-up by mix-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.base import Prediction, Task
from tagmill.tasks.figures import (
    IGNORE,
    calibration_error,
)
from training.data.arrays import Arrays

#: mix-ups that are named
PAIRS = 12


@dataclass(frozen=True)
class Shown:
    """What the trained network says about the images it was measured on."""

    #: "test" or "validation"
    use: str
    arrays: Arrays
    #: float32 [N, labels]: a softmax or, for several labels, sigmoids, with the temperature in it; None for masks
    scores: NDArray[np.float32] | None
    #: the same at temperature 1
    uncalibrated: NDArray[np.float32] | None
    #: uint8 [N, H, W], the label of each pixel
    masks: NDArray[np.uint8] | None


@dataclass(frozen=True)
class LabelAnalysis:
    """One label. Shares are of the images shown, or for masks of their pixels; None where it has none of them."""

    label: str
    #: images that carry it, by what they are for
    pictures: Mapping[str, int]
    #: accuracy, average precision or IoU
    figure: float | None
    #: how much of what was called it is it
    precision: float | None
    #: how much of it was called it
    recall: float | None
    #: what it was most often called instead, and how much of it
    mistaken_for: tuple[str, float] | None
    #: suggested least score
    threshold: float | None


@dataclass(frozen=True)
class Pair:
    """Images, or pixels, of one label that were called another; positions of the labels."""

    true: int
    predicted: int
    count: int
    #: all with the true label
    total: int

    @property
    def share(self) -> float:
        """How much of the true label was called the other one."""
        return self.count / self.total


@dataclass(frozen=True)
class Analysis:
    """All that there is to tell of what was measured."""

    task: Task
    #: figures of `training.evaluation.metrics`
    figures: Mapping[str, Any]
    #: calibration error at temperature 1
    ece_before: float | None
    #: int64 [true, predicted] images or pixels; None where an image has several labels
    table: NDArray[np.int64] | None
    labels: tuple[LabelAnalysis, ...]
    pairs: tuple[Pair, ...]

    def weakest(self, count: int) -> list[LabelAnalysis]:
        """Return the labels with the lowest figures, the lowest first."""
        measured = [found for found in self.labels if found.figure is not None]
        return sorted(measured, key=lambda found: (found.figure, found.label))[:count]


def find(
    task: Task, labels: Sequence[str], parts: Mapping[str, Arrays], shown: Shown, thresholds: Mapping[str, float]
) -> Analysis:
    """Measure what is shown. `parts` are the images of each use, to count each label's."""
    scores = np.empty((len(shown.arrays), len(labels)), np.float32) if shown.scores is None else shown.scores
    measured = task.measure(Prediction(scores, shown.masks), shown.arrays.targets, labels)
    table = measured.confusion
    counts = {use: label_pictures(part, len(labels)) for use, part in parts.items()}
    found = tuple(
        LabelAnalysis(
            label,
            {use: int(count[number]) for use, count in counts.items()},
            measured.per_label.get(label),
            measured.precision[number],
            measured.recall[number],
            _mistaken(table, number, labels),
            thresholds.get(label),
        )
        for number, label in enumerate(labels)
    )
    before = None if shown.uncalibrated is None else calibration_error(shown.uncalibrated, shown.arrays.targets)
    return Analysis(task, measured.figures, before, table, found, mix_ups(table))


def label_pictures(arrays: Arrays, labels: int) -> NDArray[np.int64]:
    """Return how many images carry each label, int64 [labels]."""
    targets = arrays.targets
    if targets.ndim == 1:
        return np.bincount(targets, minlength=labels)
    if targets.ndim == 2:
        return np.asarray(targets.sum(axis=0), dtype=np.int64)
    found = np.zeros(labels, dtype=np.int64)
    for mask in targets:
        found += np.bincount(mask[mask != IGNORE], minlength=labels)[:labels] > 0
    return found


def mix_ups(table: NDArray[np.int64] | None, most: int = PAIRS) -> tuple[Pair, ...]:
    """Return the pairs of labels that were mixed up most often, the most frequent first."""
    if table is None:
        return ()
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    totals = table.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = [divmod(int(place), len(table)) for place in order]
    return tuple(
        Pair(true, predicted, int(wrong[true, predicted]), int(totals[true]))
        for true, predicted in places
        if wrong[true, predicted]
    )


def _mistaken(table: NDArray[np.int64] | None, number: int, labels: Sequence[str]) -> tuple[str, float] | None:
    if table is None:
        return None
    row = table[number].copy()
    total, row[number] = row.sum(), 0
    other = int(row.argmax())
    return (labels[other], float(row[other] / total)) if row[other] else None

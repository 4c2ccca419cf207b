"""Measure predictions label by label and mix-up by mix-up, for the figures, the page and the model card of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.base import Prediction, Task
from tagmill.tasks.metrics import calibration_error
from training.data.arrays import Arrays

#: mix-ups that are listed
PAIRS = 12


@dataclass(frozen=True)
class Evaluation:
    """The images that a model is measured on, with its predictions for them."""

    #: "test" or "validation"
    use: str
    arrays: Arrays
    #: float32 [N, labels]: calibrated softmax or, for multi-label, sigmoids; None for masks
    scores: NDArray[np.float32] | None
    #: the same scores at temperature 1
    uncalibrated: NDArray[np.float32] | None
    #: uint8 [N, H, W], the label index of each pixel; None for scores
    masks: NDArray[np.uint8] | None


@dataclass(frozen=True)
class LabelAnalysis:
    """The figures of one label. Shares are of the measured images or, for masks, pixels; None if it has none."""

    label: str
    #: number of images that have it, by use
    images: Mapping[str, int]
    #: accuracy, average precision or IoU
    figure: float | None
    #: share of what was predicted as this label that has it
    precision: float | None
    #: share of what has this label that was predicted as such
    recall: float | None
    #: the wrong label that was predicted most often instead, and its share of what has this label
    mistaken_for: tuple[str, float] | None
    #: suggested threshold for its score
    threshold: float | None


@dataclass(frozen=True)
class Pair:
    """A mix-up: images, or pixels, of one label that were predicted as another. Labels are given by index."""

    true: int
    predicted: int
    count: int
    #: all with the true label
    total: int

    @property
    def share(self) -> float:
        """The share of the true label that was predicted as the other one."""
        return self.count / self.total


@dataclass(frozen=True)
class Analysis:
    """Everything that the report says about predictions."""

    task: Task
    #: figures by name: see `Task.measure`
    figures: Mapping[str, Any]
    #: calibration error at temperature 1
    ece_before: float | None
    #: confusion table, int64 [true, predicted] images or pixels; None if an image has several labels
    table: NDArray[np.int64] | None
    labels: tuple[LabelAnalysis, ...]
    pairs: tuple[Pair, ...]

    def weakest(self, count: int) -> list[LabelAnalysis]:
        """Return the labels with the lowest figures, the lowest first."""
        measured = [one for one in self.labels if one.figure is not None]
        return sorted(measured, key=lambda one: (one.figure, one.label))[:count]


def analyze(
    task: Task,
    labels: Sequence[str],
    splits: Mapping[str, Arrays],
    evaluation: Evaluation,
    thresholds: Mapping[str, float],
) -> Analysis:
    """Measure the predictions of an evaluation. `splits` are the images by use, whose labels are counted."""
    arrays, scores, before = evaluation.arrays, evaluation.scores, evaluation.uncalibrated
    if scores is None:
        scores = np.empty((len(arrays), len(labels)), np.float32)
    measured = task.measure(Prediction(scores, evaluation.masks), arrays.targets, labels)
    counts = {use: split.images_per_label(len(labels)) for use, split in splits.items()}
    per_label = tuple(
        LabelAnalysis(
            label,
            {use: int(count[number]) for use, count in counts.items()},
            measured.per_label.get(label),
            measured.precision[number],
            measured.recall[number],
            _mistaken_for(measured.confusion, number, labels),
            thresholds.get(label),
        )
        for number, label in enumerate(labels)
    )
    ece_before = None if before is None else calibration_error(before, arrays.targets)
    return Analysis(task, measured.figures, ece_before, measured.confusion, per_label, mix_ups(measured.confusion))


def mix_ups(table: NDArray[np.int64] | None, most: int = PAIRS) -> tuple[Pair, ...]:
    """Return the pairs of labels that were mixed up most often, the most frequent first."""
    if table is None:
        return ()
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    totals = table.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    cells = [divmod(int(position), len(table)) for position in order]
    return tuple(
        Pair(true, predicted, int(wrong[true, predicted]), int(totals[true]))
        for true, predicted in cells
        if wrong[true, predicted]
    )


def _mistaken_for(table: NDArray[np.int64] | None, number: int, labels: Sequence[str]) -> tuple[str, float] | None:
    if table is None:
        return None
    row = table[number].copy()
    total, row[number] = row.sum(), 0
    other = int(row.argmax())
    return (labels[other], float(row[other] / total)) if row[other] else None

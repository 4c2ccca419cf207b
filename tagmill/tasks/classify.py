"""`classify`: one label per image; `scores` are a softmax."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.csv_cells import join_labels
from tagmill.records import Mask
from tagmill.tasks.base import SCORES, TOP_LABELS, TOP_SCORES, Described, Headline, Labels, Measured, Prediction, Task
from tagmill.tasks.metrics import classification, confusion, interval, shares

#: labels that are stored of an image
STORED_LABELS = 5
#: score from which on further labels are stored, too; only multi-label models give it to that many
LIKELY = 0.5


class Classify(Task):
    """One label per image."""

    name = "classify"
    summary = "names what an image shows"
    outputs = (SCORES,)
    headline = "accuracy"
    label_figure = "accuracy"

    def prediction(self, outputs: Mapping[str, NDArray[Any]]) -> Prediction:
        if TOP_SCORES in outputs:
            return Prediction(outputs[TOP_SCORES], None, outputs[TOP_LABELS])
        return Prediction(outputs[SCORES])

    def wanted_outputs(self, top_k: int) -> list[str]:
        return [TOP_SCORES, TOP_LABELS] if top_k else [SCORES]

    def rows(
        self, bundle: Described, prediction: Prediction, number: int, width: int, height: int
    ) -> tuple[Labels, tuple[Mask, ...]]:
        picked = None if prediction.labels is None else prediction.labels[number]
        return best_labels(prediction.scores[number], bundle.labels, picked), ()

    def main_labels(self, prediction: Prediction) -> NDArray[np.int64]:
        return np.asarray(prediction.scores.argmax(axis=1))

    def difference(self, expected: Prediction, found: Prediction) -> tuple[float, str]:
        # A score that is not a number is as far off as a score can be.
        return float(np.nan_to_num(np.abs(expected.scores - found.scores), nan=1.0).max()), "in a score"

    def columns(self, model: str) -> tuple[str, ...]:
        return (f"{model}.label", f"{model}.score")

    def values(self, labels: Sequence[tuple[str, float]], masks: Sequence[Any]) -> tuple[str, ...]:
        return (join_labels([labels[0][0]]), f"{labels[0][1]:.6f}") if labels else ("", "")

    def tally(self, labels: Sequence[str]) -> "ScoreTally":
        return ScoreTally(self, labels)

    def measured(self, scores: NDArray[np.float32], targets: NDArray[Any], labels: Sequence[str]) -> Measured:
        """Return the figures of scores float32 [N, labels]."""
        figures = classification(scores, targets, labels)
        table = confusion(scores.argmax(axis=1), targets, len(labels))
        right = np.diag(table)
        precision, recall = shares(right, table.sum(axis=0)), shares(right, table.sum(axis=1))
        return Measured(figures, figures["per_class"], table, precision, recall)

    def headlines(
        self, measured: Mapping[str, Any], labels: int, shown: str, ece_before: float | None
    ) -> list[Headline]:
        low, high = interval(measured["accuracy"], measured["images"])
        accuracy = f"{low:.1%} to {high:.1%} with 95% certainty; {shown}"
        found = [
            Headline("accuracy", f"{measured['accuracy']:.1%}", accuracy),
            Headline("macro F1", f"{measured['macro_f1']:.3f}", "every label counts the same"),
            calibration_headline(measured, ece_before),
        ]
        if labels > STORED_LABELS:
            found.insert(1, Headline("top 5", f"{measured['top5']:.1%}", "the right label is among five"))
        return found


class ScoreTally:
    """The scores of all calls, which figures need together."""

    def __init__(self, task: Classify, labels: Sequence[str]) -> None:
        self._task = task
        self._labels = labels
        self._scores: list[NDArray[np.float32]] = []
        self._targets: list[NDArray[Any]] = []

    def add(self, prediction: Prediction, targets: NDArray[Any]) -> None:
        """Add the scores of some images."""
        self._scores.append(prediction.scores)
        self._targets.append(targets)

    def measured(self) -> Measured:
        """Return the figures of all images that were added; at least one must have been."""
        return self._task.measured(np.concatenate(self._scores), np.concatenate(self._targets), self._labels)


def best_labels(scores: NDArray[np.float32], labels: Sequence[str], picked: NDArray[np.int64] | None = None) -> Labels:
    """Return the best five labels with their scores, and all likely ones, best first; ties in the labels' order.

    With `picked`, the scores are in order already, and `picked` holds the label of each.
    """
    count = max(STORED_LABELS, np.count_nonzero(scores >= LIKELY))
    if picked is not None:
        best = zip(picked[:count], scores[:count], strict=True)
        return tuple((labels[number], float(score)) for number, score in best)
    return tuple((labels[number], float(scores[number])) for number in np.argsort(-scores, kind="stable")[:count])


def calibration_headline(measured: Mapping[str, Any], ece_before: float | None) -> Headline:
    """Return the calibration error as a headline."""
    note = f"chance alone makes {measured['ece_by_chance']:.3f}"
    note += "" if ece_before is None else f"; {ece_before:.3f} before calibration"
    return Headline("calibration error", f"{measured['ece']:.3f}", note)


TASK = CLASSIFY = Classify()

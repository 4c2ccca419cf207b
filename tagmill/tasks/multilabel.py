"""`multilabel`: any number of labels per image; each score is a sigmoid of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.records import Mask
from tagmill.tasks.base import Headline, Measured
from tagmill.tasks.classify import Classify, calibration_headline
from tagmill.tasks.metrics import GIVEN, multilabel, shares


class Multilabel(Classify):
    """Any number of labels per image."""

    name = "multilabel"
    summary = "gives an image any number of labels"
    multilabel = True
    headline = "mean_ap"
    label_figure = "average precision"

    def measured(self, scores: NDArray[np.float32], targets: NDArray[Any], labels: Sequence[str]) -> Measured:
        figures = multilabel(scores, targets, labels)
        given, true = scores >= GIVEN, targets == 1
        right = (given & true).sum(axis=0)
        precision, recall = shares(right, given.sum(axis=0)), shares(right, true.sum(axis=0))
        return Measured(figures, figures["per_class_ap"], None, precision, recall)

    def given(self, labels: Sequence[tuple[str, float]], masks: Sequence[Mask]) -> list[tuple[str, float]]:
        return [(label, score) for label, score in labels if score >= GIVEN]

    def certainty(self, labels: Sequence[tuple[str, float]], masks: Sequence[Mask]) -> float | None:
        # Each label is a decision between s and 1 - s, whose margin is |2s - 1|. The least certain one counts.
        return min((abs(2 * score - 1) for _, score in labels), default=None)

    def headlines(
        self, measured: Mapping[str, Any], labels: int, shown: str, ece_before: float | None
    ) -> list[Headline]:
        return [
            Headline("mean average precision", f"{measured['mean_ap']:.3f}", shown),
            Headline("macro F1", f"{measured['macro_f1']:.3f}", "at a score of 0.5"),
            calibration_headline(measured, ece_before),
        ]


TASK = MULTILABEL = Multilabel()

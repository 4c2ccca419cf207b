"""The gate of accuracy: on a test set, the version must not be lower than the one in production.

It fails if the figure is lower by more than `MOST_LOSS`, however few the images are, and if it is certainly lower, by
however little: if the 95 % interval of the difference is below 0. Between the two, chance cannot be told from a loss,
and the gate passes. The interval is of image pairs (`tagmill.comparison.paired`), so there is one for classifiers only.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.evaluate import LabeledBatch, evaluate
from export.promotion.gate import Gate, failed, not_checked, passed
from tagmill.comparison.agreement import has_one_label
from tagmill.comparison.paired import Paired, paired
from tagmill.errors import BundleError, InputError, NothingToDo
from tagmill.tasks.base import Prediction
from tagmill.tasks.metrics import interval
from worker.inference.session import Session

ACCURACY = "accuracy"
#: loss of the headline figure, 0 to 1, above which the gate fails whatever chance may have done
MOST_LOSS = 0.01


@dataclass(frozen=True)
class Measured:
    """A bundle on the test set."""

    figure: float
    images: int
    #: image -> whether its label is right; only of classifiers
    right: dict[str, bool]


def accuracy_gate(
    session: Session, production: tuple[str, Session] | None, data: Sequence[Path], pool: Executor
) -> Gate:
    """Measure a version and the one in production, a title with its session. Return whether the first is no lower."""
    task = session.spec.task
    try:
        now = _measure(session, data, pool)
        before = _measure(production[1], data, pool) if production else None
    except (InputError, NothingToDo, BundleError) as error:  # such as labels that one of the two does not have
        return failed(ACCURACY, str(error))
    name = task.headline.replace("_", " ")
    values: dict[str, Any] = {"figure": task.headline, "value": now.figure, "images": now.images}
    values["test_set"] = [str(source) for source in data]
    of = f"on {now.images:,} images"
    if before is None or production is None:
        low, high = interval(now.figure, now.images)
        shown = f" ({low:.1%} to {high:.1%})" if now.right else ""
        return passed(ACCURACY, f"{name} {now.figure:.1%}{shown} {of}; no version is in production to compare it with",
                      **values)  # fmt: skip
    values |= {"production": production[0], "production_value": before.figure}
    return judge(f"{name} {now.figure:.1%}, {production[0]} has {before.figure:.1%} {of}", now, before, values)


def judge(said: str, now: Measured, before: Measured, values: dict[str, Any]) -> Gate:
    """Return the gate of two measurements of the same images."""
    pairs = [(before.right[image], right) for image, right in now.right.items() if image in before.right]
    if not pairs:
        difference = now.figure - before.figure
        shown, certainly_lower = f"{said}: {100 * difference:+.1f} points", False
    else:
        found: Paired = paired(pairs)
        difference, (low, high) = found.difference, found.interval
        shown = f"{said}: {100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        certainly_lower = high < 0
        values |= {"interval": [low, high]}
    values |= {"difference": difference}
    if difference < -MOST_LOSS:
        return failed(ACCURACY, f"{shown}, more than {100 * MOST_LOSS:g} lower", **values)
    if certainly_lower:
        return failed(ACCURACY, f"{shown}, lower with 95% certainty", **values)
    return passed(ACCURACY, shown, **values)


def without_test_set() -> Gate:
    """Return the gate for a promotion without a test set."""
    return not_checked(ACCURACY, "name labeled images with --test-set")


def _measure(session: Session, data: Sequence[Path], pool: Executor) -> Measured:
    task = session.spec.task
    right: dict[str, bool] = {}

    def note(batch: LabeledBatch, prediction: Prediction) -> None:
        given = task.main_labels(prediction)
        for example, label, target in zip(batch.examples, given, batch.targets, strict=True):
            right[f"{example.source}:{example.image}"] = bool(label == target)

    report = evaluate(session, data, pool=pool, each=note if has_one_label(task) else None)
    return Measured(float(np.nan_to_num(report[task.headline])), report["images"], right)

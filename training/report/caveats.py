"""Sentences about a model that a reader should know before trusting it, derived from its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from tagmill.pages.templating import count_images
from training.report.analysis import Analysis, LabelAnalysis

#: images below which the figure of a label is unreliable
FEW = 20
#: calibration error above which scores mislead (the limit that starter bundles have to keep)
MISLEADING = 0.03
#: gap between training and validation accuracy that is mentioned
GAP = 0.1
#: ratio between the most and the fewest training images of a label that is mentioned
UNEVEN = 10
#: labels that a sentence names
NAMED = 4


def caveats(analysis: Analysis, summary: Mapping[str, Any], use: str) -> list[str]:
    """Return sentences, the most important first; `use` is what the measured images are: test or validation."""
    sentences = [
        _no_test(use),
        _weakest(analysis, use),
        _mix_ups(analysis),
        _few_images(analysis, use),
        _calibration(analysis),
        _overfitting(summary),
        _imbalance(analysis),
        _copies(summary),
        _unreadable(summary),
    ]
    return [sentence for sentence in sentences if sentence]


def _no_test(use: str) -> str:
    if use == "test":
        return ""
    return (
        "There were no test images. All figures were measured on the validation images, which also decided which "
        "weights were kept and how the scores were calibrated. Expect lower figures on new images."
    )


def _weakest(analysis: Analysis, use: str) -> str:
    weak = analysis.weakest(min(3, max(1, len(analysis.labels) // 3)))
    if not weak:
        return ""
    named = _join([f"{one.label} ({one.figure:.2f} on {count_images(one.images[use])})" for one in weak])
    figure = analysis.task.label_figure
    return f"The weakest label{'' if len(weak) == 1 else 's'} by {figure}: {named}."


def _mix_ups(analysis: Analysis) -> str:
    if not analysis.pairs:
        return ""
    names = [one.label for one in analysis.labels]
    unit = analysis.task.unit
    worst = analysis.pairs[:2]
    described = [
        f"{names[one.true]} predicted as {names[one.predicted]} ({one.share:.0%} of its {unit})" for one in worst
    ]
    return f"Most frequent mix-up{'s' if len(worst) > 1 else ''}: {_join(described)}."


def _few_images(analysis: Analysis, use: str) -> str:
    none = [one for one in analysis.labels if not one.images.get(use)]
    few = [one for one in analysis.labels if 0 < one.images.get(use, 0) < FEW]
    sentences = []
    if few:
        whose = "its figure is" if len(few) == 1 else "their figures are"
        sentences.append(f"There are fewer than {FEW} {use} images of {_names(few)}, so {whose} unreliable.")
    if none:
        what = "that label was" if len(none) == 1 else "those labels were"
        sentences.append(f"There is no {use} image of {_names(none)}, so {what} not measured.")
    return " ".join(sentences)


def _calibration(analysis: Analysis) -> str:
    error = analysis.figures.get("ece")
    if error is None or error <= max(MISLEADING, analysis.figures["ece_by_chance"]):
        return ""
    return (
        f"On average, a score differs by {error * 100:.1f} percentage points from the share of predictions with that "
        "score that are right. Choose thresholds on your own images."
    )


def _overfitting(summary: Mapping[str, Any]) -> str:
    kept = [entry for entry in summary["history"] if entry["epoch"] == summary["epoch"]]
    if not kept or "accuracy" not in kept[0] or "validation_accuracy" not in kept[0]:
        return ""
    gap = kept[0]["accuracy"] - kept[0]["validation_accuracy"]
    if gap < GAP:
        return ""
    return (
        f"In the epoch that was kept, accuracy was {gap * 100:.0f} percentage points higher on the training images "
        "than on the validation images. More images or stronger augmentation would help more than a larger network."
    )


def _imbalance(analysis: Analysis) -> str:
    counts = sorted((one.images["train"], one.label) for one in analysis.labels if one.images["train"])
    if not counts or counts[-1][0] < UNEVEN * counts[0][0]:
        return ""
    (least, rare), (most, frequent) = counts[0], counts[-1]
    return f"The training images are unevenly distributed: {frequent} has {most:,}, {rare} has {least:,}."


def _copies(summary: Mapping[str, Any]) -> str:
    copies = summary["duplicates"]
    if not copies:
        return ""
    have = "has an identical copy" if copies == 1 else "have identical copies"
    return (
        f"{count_images(copies)} {have} in another split of the data. Copies of validation and test images were not "
        "trained on."
    )


def _unreadable(summary: Mapping[str, Any]) -> str:
    count = summary["unreadable"]
    return f"{count_images(count)} could not be read and {'was' if count == 1 else 'were'} left out." if count else ""


def _names(labels: Sequence[LabelAnalysis]) -> str:
    names = [label.label for label in labels[:NAMED]]
    rest = len(labels) - len(names)
    return _join([*names, f"{rest:,} more"]) if rest else _join(names)


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

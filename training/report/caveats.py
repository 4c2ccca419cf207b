"""What a reader should know before trusting a model, in sentences that are read off its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.report.analysis import Analysis, LabelAnalysis

#: images below which the figure of a label says little
FEW = 20
#: calibration error from which on scores mislead (the figure that starter bundles are held to)
MISLEADING = 0.03
#: how much better training may be than validation before it is named
GAP = 0.1
#: how many times more images one label may have than another before it is named
UNEVEN = 10
#: labels that a sentence names
NAMED = 4


def remarks(findings: Analysis, summary: Mapping[str, Any], use: str) -> list[str]:
    """Return sentences, the most important first."""
    told = [
        _no_test(use),
        _weakest(findings, use),
        _mixed_up(findings),
        _few(findings, use),
        _calibration(findings),
        _gap(summary),
        _uneven(findings),
        _copies(summary),
        _unreadable(summary),
    ]
    return [sentence for sentence in told if sentence]


def _no_test(use: str) -> str:
    if use == "test":
        return ""
    return (
        "There were no test images. Every figure is of the validation images, which also decided what was kept and "
        "calibrated: on new images expect less."
    )


def _weakest(findings: Analysis, use: str) -> str:
    weak = findings.weakest(min(3, max(1, len(findings.labels) // 3)))
    if not weak:
        return ""
    named = _and([f"{one.label} ({one.figure:.2f} on {pictures(one.pictures[use])})" for one in weak])
    verb = "label is" if len(weak) == 1 else "labels are"
    return f"The weakest {verb} {named}; the figure is {findings.task.label_figure}."


def _mixed_up(findings: Analysis) -> str:
    if not findings.pairs:
        return ""
    names = [label.label for label in findings.labels]
    worst = findings.pairs[:2]
    unit = findings.task.unit
    said = [f"{names[one.true]} called {names[one.predicted]} ({one.share:.0%} of its {unit})" for one in worst]
    return f"The most frequent mix-ups: {_and(said)}."


def _few(findings: Analysis, use: str) -> str:
    none = [one for one in findings.labels if not one.pictures.get(use)]
    few = [one for one in findings.labels if 0 < one.pictures.get(use, 0) < FEW]
    said = []
    if few:
        said.append(f"fewer than {FEW} {use} images of {_names(few)}: their figures may be far off")
    if none:
        said.append(f"no {use} image of {_names(none)}: nothing is known of them")
    return f"There are {_and(said)}." if said else ""


def _calibration(findings: Analysis) -> str:
    error = findings.figures.get("ece")
    if error is None or error <= max(MISLEADING, findings.figures["ece_by_chance"]):
        return ""
    return (
        f"A score is {error * 100:.1f} points away from how often it is right, on average: choose thresholds on "
        "images of your own."
    )


def _gap(summary: Mapping[str, Any]) -> str:
    kept = [entry for entry in summary["history"] if entry["epoch"] == summary["epoch"]]
    if not kept or "accuracy" not in kept[0] or "validation_accuracy" not in kept[0]:
        return ""
    gap = kept[0]["accuracy"] - kept[0]["validation_accuracy"]
    if gap < GAP:
        return ""
    return (
        f"In the epoch that was kept the accuracy on training images was {gap:.0%} above that on held-out ones: more "
        "images, or stronger augmentation, would help more than a larger network."
    )


def _uneven(findings: Analysis) -> str:
    counts = sorted((one.pictures["train"], one.label) for one in findings.labels if one.pictures["train"])
    if not counts or counts[-1][0] < UNEVEN * counts[0][0]:
        return ""
    (least, rare), (most, frequent) = counts[0], counts[-1]
    return f"The training images are uneven: {frequent} has {most:,}, {rare} has {least:,}."


def _copies(summary: Mapping[str, Any]) -> str:
    copies = summary["duplicates"]
    if not copies:
        return ""
    one = "image stands" if copies == 1 else "images stand"
    return (
        f"{copies:,} {one} in two parts of the data under the same bytes; copies of measured ones were not trained on."
    )


def _unreadable(summary: Mapping[str, Any]) -> str:
    count = summary["unreadable"]
    return f"{pictures(count)} could not be read and {'was' if count == 1 else 'were'} left out." if count else ""


def _names(labels: Sequence[LabelAnalysis]) -> str:
    names = [label.label for label in labels[:NAMED]]
    rest = len(labels) - len(names)
    return _and([*names, f"{rest:,} more"]) if rest else _and(names)


def pictures(count: int) -> str:
    """Return that many images, in words."""
    return f"{count:,} image" if count == 1 else f"{count:,} images"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

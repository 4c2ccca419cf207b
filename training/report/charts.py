"""Charts of a training run: learning curves, confusion matrix, reliability diagram, and the figure of each label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from tagmill.tasks.base import Task
from tagmill.tasks.metrics import BINS, calibration_error
from training.report.analysis import Analysis, Evaluation, mix_ups
from training.report.style import BLUE, FAINT, GREEN, INK, LINE, NOTHING, ORANGE, in_style, new_figure, save, shorten

#: most labels of which a confusion matrix shows all, and the number that it shows of more
ALL_LABELS, SOME_LABELS = 40, 25
#: most labels with which each cell shows its number
NUMBERED = 26
#: most labels that the bar chart shows
BARS = 40

_TITLES = {"mean_ap": "mean average precision", "mean_iou": "mean IoU"}
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#cfe3f2", "#6aaed6", BLUE, "#053b5e"])


@in_style
def draw_curves(history: Sequence[dict[str, float]], metric: str, best: int, path: Path) -> None:
    """Plot loss and `metric` on training and validation images for each epoch, and the learning rate below.

    `best` is the epoch whose weights were kept.
    """
    has_lr = all("lr" in entry for entry in history)
    figure = new_figure(9.4, 4.4 if has_lr else 3.6)
    axes = figure.subplot_mosaic([["loss", metric], ["lr", "lr"]] if has_lr else [["loss", metric]],
                                 height_ratios=[4, 1] if has_lr else [1])  # fmt: skip
    for name in ("loss", metric):
        _curve(axes[name], history, name, best)
    if has_lr:
        _learning_rate(axes["lr"], history)
    for one in axes.values():
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        one.set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)
    save(figure, path)


def _learning_rate(axes: Axes, history: Sequence[dict[str, float]]) -> None:
    epochs, rates = [entry["epoch"] for entry in history], [entry["lr"] for entry in history]
    axes.fill_between(epochs, rates, color=FAINT, alpha=0.25, lw=0)
    axes.plot(epochs, rates, color=FAINT, lw=1.2)
    axes.set_ylim(0)
    axes.set_ylabel("learning rate")
    axes.yaxis.set_major_locator(MaxNLocator(2))


def _curve(axes: Axes, history: Sequence[dict[str, float]], name: str, best: int) -> None:
    for key, label, color in ((name, "training", ORANGE), (f"validation_{name}", "validation", BLUE)):
        points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
        if points:
            style = {"marker": "o", "markersize": 3.2 if len(points) < 60 else 0}
            axes.plot(*zip(*points, strict=True), color=color, label=label, **style)  # type: ignore[arg-type]  # matplotlib's stub lists each keyword separately
    held = next((entry.get(f"validation_{name}") for entry in history if entry["epoch"] == best), None)
    axes.axvline(best, color=GREEN, lw=1.2, ls=(0, (4, 3)), zorder=0)
    if held is not None:
        axes.plot([best], [held], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=GREEN, lw=0,
                  markeredgewidth=1.8, label=f"kept: epoch {best}, {held:.3f}")  # fmt: skip
    axes.set_title(_TITLES.get(name, name.replace("_", " ")))
    axes.set_xlabel("epoch")
    axes.grid(visible=True)
    axes.legend(loc="best")


@in_style
def draw_confusion(table: NDArray[np.int64], labels: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix in shares of its rows; of many labels it shows those most often mixed up."""
    chosen = confused_labels(table)
    totals = table.sum(axis=1)
    shares = (table / np.maximum(totals, 1)[:, None])[np.ix_(chosen, chosen)]
    side = 2.6 + 0.36 * len(chosen) if len(chosen) <= NUMBERED else 2.6 + 0.24 * len(chosen)
    figure = new_figure(max(5.0, side + 0.6), max(4.2, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=_SHADES, vmin=0, vmax=1)
    for row in np.flatnonzero(totals[chosen] == 0):
        axes.axhspan(row - 0.5, row + 0.5, color=NOTHING, lw=0)
    names = [shorten(labels[number]) for number in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(chosen)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_xticks(np.arange(len(chosen) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(chosen) + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="white" if len(chosen) < len(labels) else LINE, linewidth=0.4)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(chosen) <= NUMBERED:
        _write_shares(axes, shares)
    figure.colorbar(image, ax=axes, format=PercentFormatter(1.0), shrink=0.6, aspect=26, pad=0.02, drawedges=False)
    if len(chosen) < len(labels):
        axes.set_title(f"the {len(chosen)} of {len(labels):,} labels most often mixed up")
    save(figure, path)


def _write_shares(axes: Axes, shares: NDArray[np.float64]) -> None:
    size = 8 if len(shares) <= 12 else 6.5
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            axes.text(column, row, f"{share * 100:.0f}", ha="center", va="center", fontsize=size,
                      color="white" if share > 0.55 else INK)  # fmt: skip


def confused_labels(table: NDArray[np.int64]) -> list[int]:
    """Return the indexes of all labels or, of more than 40, of the 25 in the most frequent mix-ups."""
    if len(table) <= ALL_LABELS:
        return list(range(len(table)))
    chosen: dict[int, None] = {}
    for pair in mix_ups(table, SOME_LABELS**2):
        if len(chosen.keys() | {pair.true, pair.predicted}) <= SOME_LABELS:
            chosen |= dict.fromkeys((pair.true, pair.predicted))
    return sorted(chosen) or list(range(SOME_LABELS))


@in_style
def draw_reliability(task: Task, evaluation: Evaluation, path: Path) -> None:
    """Draw the share of right predictions against their score, before and after calibration, in 15 bins.

    A histogram of the scores is below.
    """
    scores, targets = evaluation.scores, evaluation.arrays.targets
    figure = new_figure(5.4, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    upper.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)), label="perfectly calibrated")
    edges = np.linspace(0, 1, BINS + 1)
    for found, name, color in ((evaluation.uncalibrated, "before calibration", ORANGE), (scores, "calibrated", BLUE)):
        if found is None:
            continue
        confidence, right = confidences(task, found, targets)
        counts, means, shares = reliability_bins(confidence, right)
        filled = counts > 0
        label = f"{name}: ECE {calibration_error(found, targets):.3f}"
        weight = 12 + 150 * np.sqrt(counts[filled] / counts.sum())
        upper.plot(means[filled], shares[filled], color=color, lw=1.3, label=label, marker="o", markersize=3)
        upper.scatter(means[filled], shares[filled], s=weight, color=color, alpha=0.75, lw=0, zorder=3)
        lower.stairs(counts / counts.sum(), edges, color=color, lw=1.4, fill=found is scores, alpha=0.7)
    upper.set_ylabel("share of right predictions")
    upper.set_ylim(0, 1.02)
    upper.set_xlim(0, 1)
    upper.legend(loc="upper left")
    lower.set_xlabel("score" if task.multilabel else "score of the predicted label")
    lower.set_ylabel("share of scores" if task.multilabel else "share of images")
    for axes in (upper, lower):
        axes.grid(visible=True)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    save(figure, path)


def confidences(task: Task, scores: NDArray[np.float32], targets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the scores to rate, and whether each is right: the best of each image or, for multi-label, all of them."""
    if task.multilabel:
        return scores.ravel(), targets.ravel() == 1
    return scores.max(axis=1), scores.argmax(axis=1) == targets


def reliability_bins(confidence: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the number of scores in each of 15 bins of equal width, their mean, and the share that is right."""
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    some = np.maximum(counts, 1)
    means = np.bincount(place, weights=confidence, minlength=BINS) / some
    return counts, means, np.bincount(place, weights=right, minlength=BINS) / some


@in_style
def draw_per_class(analysis: Analysis, use: str, path: Path) -> None:
    """Draw a bar per label with its figure and its number of images, the weakest label first."""
    measured = analysis.weakest(len(analysis.labels))
    shown = measured[:BARS]
    figure = new_figure(7.2, 1.1 + 0.235 * len(shown))
    axes = figure.subplots()
    values = [one.figure or 0.0 for one in shown]
    axes.barh(range(len(shown)), values, height=0.72, color=BLUE)
    for place, one in enumerate(shown):
        beside: dict[str, Any] = {"va": "center", "fontsize": 8, "transform": axes.get_yaxis_transform()}
        axes.text(1.015, place, f"{one.figure:.3f}", color=INK, **beside)
        axes.text(1.105, place, f"n = {one.images.get(use, 0):,}", color=FAINT, **beside)
    axes.set_yticks(range(len(shown)), [shorten(one.label) for one in shown], color=INK)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.tick_params(length=0)
    axes.grid(visible=True, axis="x")
    axes.spines["bottom"].set_visible(False)
    mean = float(np.mean([one.figure or 0.0 for one in measured]))
    axes.axvline(mean, color=ORANGE, lw=1.4)
    rest = f"; the {len(shown)} weakest of {len(measured):,} labels" if len(shown) < len(measured) else ""
    axes.set_title(f"{analysis.task.label_figure} (line: mean {mean:.3f}){rest}")
    save(figure, path)

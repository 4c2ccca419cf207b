"""Grids of images: training images, predictions, mix-ups and masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from tagmill.tasks.base import Task
from tagmill.tasks.masks import figure_colors
from tagmill.tasks.metrics import GIVEN, IGNORE
from training.data.arrays import Arrays
from training.data.segmentation import pixels_per_value
from training.report.analysis import Evaluation, Pair
from training.report.grid_layout import GridLayout
from training.report.style import FAINT, INK, LINE, WRONG, in_style, join_names, shorten

#: images in a row and in a column of a grid
GRID = 5
#: mix-ups with images, and images of each
MIX_UPS, EXAMPLES = 6, 4
#: images with masks
MASKED = 8
#: entries in a row of a legend
LEGEND = 7
#: inches: the side of an image, the gap beside it, and the height of a line of text above it
SIDE, GAP, LINE_HEIGHT = 1.72, 0.16, 0.16
#: inches between an image and the baseline of the text above it
RAISED = 0.05


@in_style
def draw_training_images(task: Task, arrays: Arrays, labels: Sequence[str], path: Path) -> None:
    """Draw 5x5 training images of as many labels as possible, titled with their labels."""
    chosen = varied_positions(task, arrays, GRID * GRID)
    titles = [(join_names(true_labels(task, arrays, number, labels)), "") for number in chosen]
    _draw_grid([_with_mask(task, arrays, number) for number in chosen], titles, path, lines=1)


@in_style
def draw_predictions(task: Task, evaluation: Evaluation, labels: Sequence[str], path: Path) -> None:
    """Draw 5x5 images, chosen at random, titled with the prediction and, if it is wrong, with the truth."""
    chosen = random_positions(len(evaluation.arrays), GRID * GRID)
    titles = [prediction_title(task, evaluation, number, labels) for number in chosen]
    _draw_grid([evaluation.arrays.pixels[number] for number in chosen], titles, path, lines=2)


@in_style
def draw_confused_pairs(evaluation: Evaluation, pairs: Sequence[Pair], labels: Sequence[str], path: Path) -> None:
    """Draw a row for each of the most frequent mix-ups: up to four of its images, with the scores of both labels."""
    assert evaluation.scores is not None
    pairs = pairs[:MIX_UPS]
    step, margin = SIDE + GAP, SIDE + 4 * GAP
    row = step + LINE_HEIGHT
    grid = GridLayout(margin + EXAMPLES * step, GAP + len(pairs) * row)
    predicted = evaluation.scores.argmax(axis=1)
    for place, pair in enumerate(pairs):
        top = GAP + place * row + LINE_HEIGHT
        count = f"{pair.count:,} of {pair.total:,} ({pair.share:.0%})"
        grid.text(GAP, top + 0.55, shorten(labels[pair.true], 18), 11, bold=True, centered=False)
        grid.text(GAP, top + 0.78, "predicted as", 9, FAINT, centered=False)
        grid.text(GAP, top + 1.01, shorten(labels[pair.predicted], 18), 11, WRONG, bold=True, centered=False)
        grid.text(GAP, top + 1.24, count, 9, FAINT, centered=False)
        own = np.flatnonzero((evaluation.arrays.targets == pair.true) & (predicted == pair.predicted))
        surest = own[np.argsort(-evaluation.scores[own, pair.predicted], kind="stable")][:EXAMPLES]
        for column, number in enumerate(surest):
            left = margin + column * step
            wrong, true = evaluation.scores[number, pair.predicted], evaluation.scores[number, pair.true]
            grid.text(left + SIDE / 2, top - RAISED, f"{wrong:.0%} against {true:.0%}")
            grid.image(left, top, SIDE, evaluation.arrays.pixels[number])
    grid.save(path)


@in_style
def draw_masks(evaluation: Evaluation, labels: Sequence[str], path: Path) -> None:
    """Draw images beside their true and their predicted mask, and a legend of the labels in them."""
    assert evaluation.masks is not None
    chosen = random_positions(len(evaluation.arrays), MASKED)
    legend = _mask_legend(evaluation, chosen, labels)
    side, gap, foot = SIDE * 0.88, GAP / 2, 0.2 + 0.19 * -(-len(legend) // LEGEND)
    across = min(2, len(chosen))
    block, row = 3 * (side + gap) + GAP, side + 2 * LINE_HEIGHT
    grid = GridLayout(GAP + across * block, 2 * LINE_HEIGHT + -(-len(chosen) // across) * row + foot)
    for place, number in enumerate(chosen):
        image, truth = evaluation.arrays.pixels[number], evaluation.arrays.targets[number]
        predicted = evaluation.masks[number]
        top, start = 2 * LINE_HEIGHT + place // across * row, GAP + place % across * block
        for column, (title, mask) in enumerate((("image", None), ("truth", truth), ("prediction", predicted))):
            left = start + column * (side + gap)
            grid.image(left, top, side, image if mask is None else overlay_mask(image, mask))
            if place < across:
                grid.text(left + side / 2, 2 * LINE_HEIGHT - 0.09, title, 9.5, bold=True)
        counted = truth != IGNORE
        right = float((predicted == truth)[counted].mean()) if counted.any() else 0.0
        middle = start + 2 * (side + gap) + side / 2
        grid.text(middle, top + side + LINE_HEIGHT, f"{right:.0%} of the pixels right", 8, FAINT)
    grid.figure.legend(handles=legend, loc="lower center", ncols=LEGEND, fontsize=8.5)
    grid.save(path)


def overlay_mask(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[Any]:
    """Return float [H, W, 3]: the image under its mask. The first label is left clear, ignored pixels are gray."""
    tint = np.where(mask == 0, 0.0, 0.6)[..., None]
    colors = figure_colors()
    colors[IGNORE] = 0.5
    tinted: NDArray[Any] = image / 255 * (1 - tint) + colors[mask] * tint
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    tinted[edge] *= 0.45  # a dark outline separates regions of similar color
    return tinted


def varied_positions(task: Task, arrays: Arrays, count: int) -> list[int]:
    """Return positions of images, one of each label in turn, the same on each call; of masks at random."""
    order = np.random.default_rng(0).permutation(len(arrays))
    if task.gives_masks:
        return [int(number) for number in order[:count]]
    main = arrays.targets.argmax(axis=1) if task.multilabel else arrays.targets
    seen: dict[int, int] = {}
    rounds = []
    for number in order:
        label = int(main[number])
        seen[label] = seen.get(label, -1) + 1
        rounds.append((seen[label], int(number)))
    return [number for _, number in sorted(rounds, key=lambda one: one[0])[:count]]


def random_positions(images: int, count: int) -> list[int]:
    """Return up to `count` positions of images at random, the same on each call."""
    return [int(number) for number in np.random.default_rng(0).permutation(images)[:count]]


def true_labels(task: Task, arrays: Arrays, number: int, labels: Sequence[str]) -> list[str]:
    """Return the labels of an image; for a mask its labels except the first, the largest first."""
    target = arrays.targets[number]
    if task.gives_masks:
        pixels = np.bincount(target[target != IGNORE], minlength=len(labels))
        pixels[0] = 0
        order = np.argsort(-pixels, kind="stable")
        return [labels[index] for index in order.tolist() if pixels[index]] or [labels[0]]
    if task.multilabel:
        return [labels[index] for index in np.flatnonzero(target).tolist()]
    return [labels[int(target)]]


def prediction_title(task: Task, evaluation: Evaluation, number: int, labels: Sequence[str]) -> tuple[str, str]:
    """Return the prediction for an image and, if it is wrong, the true labels; else an empty text."""
    assert evaluation.scores is not None
    scores, true = evaluation.scores[number], true_labels(task, evaluation.arrays, number, labels)
    if task.multilabel:
        given = [labels[index] for index in np.flatnonzero(scores >= GIVEN).tolist()]
        return join_names(given), "" if given == true else f"true: {join_names(true, 17)}"
    best = int(scores.argmax())
    predicted = f"{shorten(labels[best], 17)} {scores[best]:.0%}"
    return predicted, "" if labels[best] == true[0] else f"true: {shorten(true[0], 17)}"


def _with_mask(task: Task, arrays: Arrays, number: int) -> NDArray[Any]:
    """Return the pixels of an image, under its mask if it has one."""
    pixels: NDArray[Any] = arrays.pixels[number]
    return overlay_mask(pixels, arrays.targets[number]) if task.gives_masks else pixels


def _draw_grid(images: Sequence[NDArray[Any]], titles: Sequence[tuple[str, str]], path: Path, lines: int) -> None:
    """Draw images under their titles; a second line in the title is the truth and marks a wrong prediction."""
    columns = min(GRID, len(images))
    step, row = SIDE + GAP, SIDE + GAP + lines * LINE_HEIGHT
    grid = GridLayout(GAP + columns * step, GAP / 2 + -(-len(images) // columns) * row)
    for place, (image, (title, truth)) in enumerate(zip(images, titles, strict=True)):
        left, top = GAP + place % columns * step, GAP / 2 + place // columns * row
        baseline, color = top + lines * LINE_HEIGHT, WRONG if truth else INK
        for line in (truth, title) if truth else (title,):
            grid.text(left + SIDE / 2, baseline - RAISED, line, color=color, bold=bool(truth))
            baseline -= LINE_HEIGHT
        grid.image(left, top + lines * LINE_HEIGHT, SIDE, image, framed=bool(truth))
    grid.save(path)


def _mask_legend(evaluation: Evaluation, chosen: Sequence[int], labels: Sequence[str]) -> list[Patch]:
    """Return an entry for each label in these masks, the largest first."""
    assert evaluation.masks is not None
    numbers = list(chosen)
    pixels = pixels_per_value(evaluation.arrays.targets[numbers]) + pixels_per_value(evaluation.masks[numbers])
    colors = figure_colors()
    patches = [
        Patch(facecolor=colors[index], edgecolor=LINE, label=shorten(labels[index], 14))
        for index in np.argsort(-pixels, kind="stable").tolist()
        if pixels[index] and 0 < index < len(labels)
    ]
    if pixels[IGNORE]:
        patches.append(Patch(facecolor="0.5", edgecolor=LINE, label="ignored"))
    return patches

"""Images of a training run: what was learned from, what was said of unseen ones, and what was mixed up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from tagmill.tasks.figures import GIVEN, IGNORE
from training.data.arrays import Arrays
from training.report.analysis import Pair, Shown
from training.report.grid_layout import Sheet
from training.report.style import FAINT, INK, LINE, WRONG, in_style, listed, mask_colors, short

#: images in a row and in a column of a grid
GRID = 5
#: mix-ups with images, and images of each
MIX_UPS, EXAMPLES = 6, 4
#: images with masks
MASKED = 8
#: entries of a legend in a row
LEGEND = 7
#: inches: the side of an image, the gap beside it, and the room for a line above it
SIDE, GAP, LINE_HEIGHT = 1.72, 0.16, 0.16
#: inches from an image up to the words that stand on it
RAISED = 0.05


@in_style
def draw_training_pictures(arrays: Arrays, labels: Sequence[str], path: Path) -> None:
    """Draw 5x5 images that were trained on, of as many labels as there is room for, titled with their labels."""
    chosen = varied(arrays, GRID * GRID)
    titles = [(listed(true_labels(arrays, number, labels)), "") for number in chosen]
    _grid([_seen(arrays, number) for number in chosen], titles, path, lines=1)


@in_style
def draw_predictions(shown: Shown, labels: Sequence[str], path: Path) -> None:
    """Draw 5x5 images drawn at random, titled with what was predicted and, where that is wrong, what is true."""
    chosen = drawn(len(shown.arrays), GRID * GRID)
    titles = [answer(shown, number, labels) for number in chosen]
    _grid([shown.arrays.pixels[number] for number in chosen], titles, path, lines=2)


@in_style
def draw_confused_pairs(shown: Shown, pairs: Sequence[Pair], labels: Sequence[str], path: Path) -> None:
    """Draw a row for each of the most frequent mix-ups: up to four of its images, with both labels' scores."""
    assert shown.scores is not None
    pairs = pairs[:MIX_UPS]
    step, margin = SIDE + GAP, SIDE + 4 * GAP
    row = step + LINE_HEIGHT
    sheet = Sheet(margin + EXAMPLES * step, GAP + len(pairs) * row)
    predicted = shown.scores.argmax(axis=1)
    for place, pair in enumerate(pairs):
        top = GAP + place * row + LINE_HEIGHT
        sheet.words(GAP, top + 0.55, short(labels[pair.true], 18), 11, bold=True, middle=False)
        sheet.words(GAP, top + 0.78, "called", 9, FAINT, middle=False)
        sheet.words(GAP, top + 1.01, short(labels[pair.predicted], 18), 11, WRONG, bold=True, middle=False)
        sheet.words(GAP, top + 1.24, f"{pair.count:,} of {pair.total:,} ({pair.share:.0%})", 9, FAINT, middle=False)
        own = np.flatnonzero((shown.arrays.targets == pair.true) & (predicted == pair.predicted))
        surest = own[np.argsort(-shown.scores[own, pair.predicted], kind="stable")][:EXAMPLES]
        for column, number in enumerate(surest):
            left = margin + column * step
            said, true = shown.scores[number, pair.predicted], shown.scores[number, pair.true]
            sheet.words(left + SIDE / 2, top - RAISED, f"{said:.0%} against {true:.0%}")
            sheet.picture(left, top, SIDE, shown.arrays.pixels[number])
    sheet.save(path)


@in_style
def draw_masks(shown: Shown, labels: Sequence[str], path: Path) -> None:
    """Draw images beside their true and their predicted mask, and a legend of the labels in them."""
    assert shown.masks is not None
    chosen = drawn(len(shown.arrays), MASKED)
    legend = _mask_legend(shown, chosen, labels)
    side, gap, foot = SIDE * 0.88, GAP / 2, 0.2 + 0.19 * -(-len(legend) // LEGEND)
    across = min(2, len(chosen))
    block, row = 3 * (side + gap) + GAP, side + 2 * LINE_HEIGHT
    sheet = Sheet(GAP + across * block, 2 * LINE_HEIGHT + -(-len(chosen) // across) * row + foot)
    for place, number in enumerate(chosen):
        picture, truth = shown.arrays.pixels[number], shown.arrays.targets[number]
        top, start = 2 * LINE_HEIGHT + place // across * row, GAP + place % across * block
        for column, mask in enumerate((None, truth, shown.masks[number])):
            left = start + column * (side + gap)
            sheet.picture(left, top, side, picture if mask is None else overlay(picture, mask))
            if place < across:
                sheet.words(
                    left + side / 2, 2 * LINE_HEIGHT - 0.09, ("picture", "truth", "prediction")[column], 9.5, bold=True
                )
        counted = truth != IGNORE
        right = float((shown.masks[number] == truth)[counted].mean()) if counted.any() else 0.0
        middle = start + 2 * (side + gap) + side / 2
        sheet.words(middle, top + side + LINE_HEIGHT, f"{right:.0%} of the pixels right", 8, FAINT)
    sheet.figure.legend(handles=legend, loc="lower center", ncols=LEGEND, fontsize=8.5)
    sheet.save(path)


def overlay(picture: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[Any]:
    """Return float [H, W, 3]: the image under its mask; the first label is left clear, ignored pixels are gray."""
    tint = np.where(mask == 0, 0.0, 0.6)[..., None]
    colors = mask_colors()
    colors[IGNORE] = 0.5
    found: NDArray[Any] = picture / 255 * (1 - tint) + colors[mask] * tint
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    found[edge] *= 0.45  # an outline tells parts of like colors apart
    return found


def varied(arrays: Arrays, count: int) -> list[int]:
    """Return positions of images, one of each label in turn, the same for the same images."""
    order = np.random.default_rng(0).permutation(len(arrays))
    if arrays.targets.ndim == 3:
        return [int(number) for number in order[:count]]
    main = arrays.targets if arrays.targets.ndim == 1 else arrays.targets.argmax(axis=1)
    turns: dict[int, int] = {}
    rounds = []
    for number in order:
        label = int(main[number])
        turns[label] = turns.get(label, -1) + 1
        rounds.append((turns[label], label, int(number)))
    return [number for _, _, number in sorted(rounds, key=lambda one: one[0])[:count]]


def drawn(pictures: int, count: int) -> list[int]:
    """Return positions of images drawn at random, the same each time."""
    return [int(number) for number in np.random.default_rng(0).permutation(pictures)[:count]]


def true_labels(arrays: Arrays, number: int, labels: Sequence[str]) -> list[str]:
    """Return the labels of an image; of a mask its labels without the first, the largest first."""
    target = arrays.targets[number]
    if arrays.targets.ndim == 1:
        return [labels[int(target)]]
    if arrays.targets.ndim == 2:
        return [labels[place] for place in np.flatnonzero(target).tolist()]
    areas = np.bincount(target[target != IGNORE], minlength=len(labels))
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")
    return [labels[place] for place in order.tolist() if areas[place]] or [labels[0]]


def answer(shown: Shown, number: int, labels: Sequence[str]) -> tuple[str, str]:
    """Return what was predicted for an image and, where that is wrong, what is true."""
    assert shown.scores is not None
    scores, true = shown.scores[number], true_labels(shown.arrays, number, labels)
    if shown.arrays.targets.ndim == 2:
        given = [labels[place] for place in np.flatnonzero(scores >= GIVEN).tolist()]
        return listed(given), "" if given == true else f"true: {listed(true, 17)}"
    best = int(scores.argmax())
    said = f"{short(labels[best], 17)} {scores[best]:.0%}"
    return said, "" if labels[best] == true[0] else f"true: {short(true[0], 17)}"


def _seen(arrays: Arrays, number: int) -> NDArray[Any]:
    if arrays.targets.ndim == 3:
        return overlay(arrays.pixels[number], arrays.targets[number])
    found: NDArray[Any] = arrays.pixels[number]
    return found


def _grid(pictures: Sequence[NDArray[Any]], titles: Sequence[tuple[str, str]], path: Path, lines: int) -> None:
    """Draw images under their titles; one with a second line is wrong."""
    columns = min(GRID, len(pictures))
    step, row = SIDE + GAP, SIDE + GAP + lines * LINE_HEIGHT
    sheet = Sheet(GAP + columns * step, GAP / 2 + -(-len(pictures) // columns) * row)
    for place, (picture, (title, truth)) in enumerate(zip(pictures, titles, strict=True)):
        left, top = GAP + place % columns * step, GAP / 2 + place // columns * row
        base, color = top + lines * LINE_HEIGHT, WRONG if truth else INK
        for line in (truth, title) if truth else (title,):
            sheet.words(left + SIDE / 2, base - RAISED, line, color=color, bold=bool(truth))
            base -= LINE_HEIGHT
        sheet.picture(left, top + lines * LINE_HEIGHT, SIDE, picture, framed=bool(truth))
    sheet.save(path)


def _mask_legend(shown: Shown, chosen: Sequence[int], labels: Sequence[str]) -> list[Patch]:
    """Return an entry for each label in these masks, the largest first."""
    assert shown.masks is not None
    areas = np.zeros(256, dtype=np.int64)
    for number in chosen:
        for mask in (shown.arrays.targets[number], shown.masks[number]):
            areas += np.bincount(mask.ravel(), minlength=256)
    colors = mask_colors()
    patches = [
        Patch(facecolor=colors[place], edgecolor=LINE, label=short(labels[place], 14))
        for place in np.argsort(-areas, kind="stable").tolist()
        if areas[place] and 0 < place < len(labels)
    ]
    if areas[IGNORE]:
        patches.append(Patch(facecolor="0.5", edgecolor=LINE, label="not counted"))
    return patches

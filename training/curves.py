"""Pictures of a training run: learning curves, and a grid of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

#: pictures in a row and in a column of the grid
GRID = 5


def draw_curves(history: Sequence[dict[str, float]], metric: str, path: Path) -> None:
    """Plot loss and `metric` of the training and the validation pictures, an epoch a point."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", metric), strict=True):
        for key, label in ((name, "training"), (f"validation_{name}", "validation")):
            if all(key in entry for entry in history):
                axes.plot(epochs, [entry[key] for entry in history], marker="o", markersize=3, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend()
    _write(figure, path)


def draw_predictions(
    pixels: NDArray[np.uint8], predicted: Sequence[str], true: Sequence[str], scores: Sequence[float], path: Path
) -> None:
    """Draw up to 5x5 pictures titled with what was predicted and, where that is wrong, what is true."""
    figure, cells = _grid()
    for cell, picture, guess, truth, score in zip(cells, pixels, predicted, true, scores, strict=False):
        cell.imshow(picture)
        right = guess == truth
        title = f"{guess} {score:.0%}" if right else f"{guess} {score:.0%}\ntrue: {truth}"
        cell.set_title(title, fontsize=8, color="black" if right else "crimson")
    _write(figure, path)


def draw_masks(
    pixels: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    labels: Sequence[str],
    ious: Sequence[float],
    path: Path,
) -> None:
    """Draw up to 5x5 pictures under their predicted mask, titled with its largest label and the mean IoU."""
    figure, cells = _grid()
    colours = colormaps["tab20"](np.arange(256) % 20)[:, :3]
    for cell, picture, mask, iou in zip(cells, pixels, predicted, ious, strict=False):
        cell.imshow(_overlay(picture, mask, colours))
        areas = np.bincount(mask.ravel(), minlength=len(labels))[: len(labels)]
        found = np.argsort(-areas[1:])[0] + 1
        name = labels[found] if areas[found] else labels[0]
        cell.set_title(f"{name}  IoU {iou:.2f}", fontsize=8, color="black" if iou >= 0.5 else "crimson")
    _write(figure, path)


def _overlay(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colours: NDArray[Any]) -> NDArray[Any]:
    share = np.where(mask == 0, 0.0, 0.55)[..., None]
    shown: NDArray[Any] = picture / 255 * (1 - share) + colours[mask] * share
    return shown


def _grid() -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(10, 10.6), layout="constrained")
    cells = list(np.asarray(figure.subplots(GRID, GRID)).ravel())
    for cell in cells:
        cell.set_axis_off()
    return figure, cells


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # Without the library's version in it, the same run writes the same bytes.
    figure.savefig(path, dpi=90, metadata={"Software": None})

"""Place images and text on a page, in inches from its upper left corner."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from training.report.style import INK, WRONG, save


class GridLayout:
    """A figure with a single set of axes, which takes a tenth of the time of one set per image."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set_autoscale_on(False)
        self._axes.set(xlim=(0, width), ylim=(height, 0))

    def image(self, left: float, top: float, side: float, pixels: NDArray[Any], *, framed: bool = False) -> None:
        """Draw uint8 or 0..1 [H, W, 3], centered in a square; a frame marks a wrong prediction."""
        height, width = pixels.shape[:2]
        across, down = side * width / max(width, height), side * height / max(width, height)
        left, top = left + (side - across) / 2, top + (side - down) / 2
        self._axes.imshow(pixels, extent=(left, left + across, top + down, top), aspect="auto")
        if framed:
            frame = Rectangle((left, top), across, down, fill=False, edgecolor=WRONG, linewidth=2.5)
            self._axes.add_patch(frame)

    def text(
        self, left: float, baseline: float, text: str, size: float = 8.5, color: str = INK, *,
        bold: bool = False, centered: bool = True,
    ) -> None:  # fmt: skip
        """Write one line of text, centered at `left` or starting there."""
        self._axes.text(
            left, baseline, text, fontsize=size, color=color, fontweight="bold" if bold else "normal",
            ha="center" if centered else "left", va="baseline",
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the PNG."""
        save(self.figure, path)

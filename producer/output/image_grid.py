"""Draw a grid of tagged images with their predicted labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from producer.output.image_result import ImageResult
from producer.output.writers.mask_png_writer import index_map
from tagmill.files import atomic_write
from tagmill.images.decode import decode
from tagmill.outcomes import ImageFailure
from tagmill.registry.models import Model

#: pixels: the side of an image's square, the caption below it, the title above the grid, and the space between
CELL, CAPTION, TITLE, GAP = 176, 34, 40, 8
INK, FAINT, WRONG, PAPER, EMPTY = "#1d2433", "#6b7280", "#c2410c", "#ffffff", "#f3f4f6"
OUTLINE = (255, 64, 96)


@dataclass(frozen=True)
class Cell:
    """One image of the grid. `truth` is None if it is unknown."""

    result: ImageResult
    title: str
    score: float | None
    truth: str | None = None


def draw_grid(cells: Sequence[Cell], segmenter: tuple[str, Model] | None, columns: int, title: str, out: Path) -> Path:
    """Write a PNG with one square per cell: image, outline of its masks, predicted title and score."""
    rows = -(-len(cells) // columns)
    size = (columns * (CELL + GAP) + GAP, TITLE + rows * (CELL + CAPTION + GAP) + GAP)
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((GAP, 9), title, INK, font=_font(18))
    for number, cell in enumerate(cells):
        left = GAP + number % columns * (CELL + GAP)
        top = TITLE + number // columns * (CELL + CAPTION + GAP)
        canvas.paste(_square(cell.result, segmenter), (left, top))
        _draw_caption(pen, cell, left, top + CELL + 2)
    with atomic_write(out) as temporary:
        canvas.save(temporary, "PNG", optimize=True)
    return out


def _square(result: ImageResult, segmenter: tuple[str, Model] | None) -> Image.Image:
    try:
        image = Image.fromarray(decode(Path(result.uri).read_bytes(), CELL).rgb)
    except (OSError, ImageFailure):
        return _failed_square(result)
    if segmenter and result.width and result.height and (masks := result.masks.get(segmenter[0])):
        index = Image.fromarray(index_map(masks, segmenter[1], result.width, result.height))
        image = _outlined(image, np.asarray(index.resize(image.size, Image.Resampling.NEAREST)))
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (CELL, CELL), EMPTY)
    square.paste(image, ((CELL - image.width) // 2, (CELL - image.height) // 2))
    return square


def _outlined(image: Image.Image, index: NDArray[np.uint8]) -> Image.Image:
    """Fade the pixels outside the masks and outline the masks."""
    inside = index > 0
    edge = np.zeros_like(inside)
    width = max(1, round(max(image.size) / CELL * 1.2))
    for shift in range(1, width + 1):
        edge[:, shift:] |= inside[:, shift:] != inside[:, :-shift]
        edge[shift:, :] |= inside[shift:, :] != inside[:-shift, :]
    pixels = np.asarray(image).astype(np.float32)
    pixels[~inside] = pixels[~inside] * 0.55 + 255 * 0.45
    pixels[edge] = OUTLINE
    return Image.fromarray(pixels.astype(np.uint8))


def _failed_square(result: ImageResult) -> Image.Image:
    square = Image.new("RGB", (CELL, CELL), EMPTY)
    pen = ImageDraw.Draw(square)
    pen.line((60, 60, CELL - 60, CELL - 60), WRONG, 4)
    pen.line((CELL - 60, 60, 60, CELL - 60), WRONG, 4)
    pen.text((CELL / 2, CELL - 40), result.error_code or "unreadable", FAINT, font=_font(13), anchor="mm")
    return square


def _draw_caption(pen: ImageDraw.ImageDraw, cell: Cell, left: int, top: int) -> None:
    wrong = cell.truth is not None and cell.truth != cell.title
    score = "" if cell.score is None else f" {cell.score:.0%}"
    pen.text((left + 2, top), f"{cell.title}{score}", WRONG if wrong else INK, font=_font(14))
    if wrong:
        pen.text((left + 2, top + 17), f"truth: {cell.truth}", FAINT, font=_font(11))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

"""A grid of tagged images with their predicted titles: what a person looks at first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from producer.results.mask_png_writer import index_map
from producer.results.read import ImageResult
from tagmill.images.decode import decode
from tagmill.outcomes import ImageFailure
from tagmill.registry.models import Model

#: pixels of one picture's square
CELL = 176
#: pixels of the line below it
CAPTION = 34
GAP = 8
INK, FAINT, WRONG, PAPER = "#1d2433", "#6b7280", "#c2410c", "#ffffff"
OUTLINE = (255, 64, 96)


@dataclass(frozen=True)
class Cell:
    """One image of the grid. `truth` is None where nobody knows it."""

    result: ImageResult
    title: str
    score: float | None
    truth: str | None = None


def draw_grid(cells: Sequence[Cell], segmenter: tuple[str, Model] | None, columns: int, title: str, out: Path) -> Path:
    """Write a PNG with one square a cell: image, outline of its mask, predicted title and score."""
    rows = -(-len(cells) // columns)
    head = 40
    size = (columns * (CELL + GAP) + GAP, head + rows * (CELL + CAPTION + GAP) + GAP)
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((GAP, 9), title, INK, font=_font(18))
    for number, cell in enumerate(cells):
        left = GAP + number % columns * (CELL + GAP)
        top = head + number // columns * (CELL + CAPTION + GAP)
        canvas.paste(_picture(cell.result, segmenter), (left, top))
        _caption(pen, cell, left, top + CELL + 2)
    partial = out.with_name(f"{out.stem}.partial.png")
    canvas.save(partial, optimize=True)
    return partial.replace(out)


def _picture(result: ImageResult, segmenter: tuple[str, Model] | None) -> Image.Image:
    try:
        picture = Image.fromarray(decode(Path(result.uri).read_bytes(), CELL).rgb)
    except (OSError, ImageFailure):
        return _failed(result)
    if segmenter and result.width and result.height and (masks := result.masks.get(segmenter[0])):
        index = Image.fromarray(index_map(masks, segmenter[1], result.width, result.height))
        picture = _outlined(picture, np.asarray(index.resize(picture.size, Image.Resampling.NEAREST)))
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (CELL, CELL), "#f3f4f6")
    square.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    return square


def _outlined(picture: Image.Image, index: NDArray[np.uint8]) -> Image.Image:
    """Fade what is outside the masks and draw a line around them."""
    inside = index > 0
    edge = np.zeros_like(inside)
    width = max(1, round(max(picture.size) / CELL * 1.2))
    for shift in range(1, width + 1):
        edge[:, shift:] |= inside[:, shift:] != inside[:, :-shift]
        edge[shift:, :] |= inside[shift:, :] != inside[:-shift, :]
    pixels = np.asarray(picture).astype(np.float32)
    pixels[~inside] = pixels[~inside] * 0.55 + 255 * 0.45
    pixels[edge] = OUTLINE
    return Image.fromarray(pixels.astype(np.uint8))


def _failed(result: ImageResult) -> Image.Image:
    square = Image.new("RGB", (CELL, CELL), "#f3f4f6")
    pen = ImageDraw.Draw(square)
    pen.line((60, 60, CELL - 60, CELL - 60), WRONG, 4)
    pen.line((CELL - 60, 60, 60, CELL - 60), WRONG, 4)
    pen.text((CELL / 2, CELL - 40), result.error_code or "unreadable", FAINT, font=_font(13), anchor="mm")
    return square


def _caption(pen: ImageDraw.ImageDraw, cell: Cell, left: int, top: int) -> None:
    wrong = cell.truth is not None and cell.truth != cell.title
    score = "" if cell.score is None else f" {cell.score:.0%}"
    pen.text((left + 2, top), f"{cell.title}{score}", WRONG if wrong else INK, font=_font(14))
    if wrong:
        pen.text((left + 2, top + 17), f"truth: {cell.truth}", FAINT, font=_font(11))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

"""Check the shapes of COCO annotations, polygons and run lengths, and draw them as a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from tagmill.errors import InputError

#: largest coordinate of a polygon, in pixels; pycocotools walks along every edge pixel by pixel
LARGEST_COORDINATE = 100_000


class Shape(Protocol):
    """The pixels of one annotation."""

    def pixels(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return bool [H, W], true inside the shape."""


@dataclass(frozen=True)
class Polygons:
    """Outlines, each x1, y1, x2, y2, ... in pixels. A pixel inside any of them belongs to the shape."""

    outlines: Sequence[Sequence[float]]

    def pixels(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return bool [H, W], true inside any of the outlines."""
        return np.asarray(coco.decode(coco.merge(coco.frPyObjects(self.outlines, height, width))), dtype=bool)


@dataclass(frozen=True)
class RunLengths:
    """Run lengths of pixels outside and inside, in turn, column by column. They add up to the pixels of the image."""

    counts: Sequence[int]

    def pixels(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return bool [H, W], true inside the shape."""
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(width, height).T


@dataclass(frozen=True)
class ShapeMask:
    """The shapes of one image with the indexes of their labels. The mask is drawn when the image is read."""

    height: int
    width: int
    shapes: tuple[tuple[int, Shape], ...]

    def draw(self) -> NDArray[np.uint8]:
        """Return uint8 [H, W] of label indexes, 0 outside of all shapes; small shapes are drawn over large ones."""
        drawn = np.zeros((self.height, self.width), dtype=np.uint8)
        areas = [int(shape.pixels(self.height, self.width).sum()) for _, shape in self.shapes]
        for index in np.argsort([-area for area in areas], kind="stable"):
            label, shape = self.shapes[index]
            drawn[shape.pixels(self.height, self.width)] = label
        return drawn


def parse_shape(segmentation: Any, height: int, width: int, place: str) -> Shape:
    """Return the shape of an annotation. Raise InputError if it has none, or one that does not fit the image size."""
    if isinstance(segmentation, list) and segmentation and all(_is_polygon(part) for part in segmentation):
        return Polygons(segmentation)
    counts = segmentation.get("counts") if isinstance(segmentation, dict) else None
    if not isinstance(counts, list | str):
        raise InputError(f"{place}: has no segmentation of polygons or run lengths; a segmenter needs one")
    if segmentation.get("size") != [height, width]:
        raise InputError(
            f"{place}: its run lengths are for {segmentation.get('size')}, its image has {[height, width]}"
        )
    runs = decode_run_lengths(counts) if isinstance(counts, str) else counts
    # Checked here because pycocotools writes out of bounds if they are wrong.
    if not all(isinstance(count, int) and count >= 0 for count in runs) or sum(runs) != height * width:
        raise InputError(f"{place}: its run lengths do not add up to the image's pixels")
    return RunLengths(runs)


def decode_run_lengths(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed text (pycocotools, rleFrString).

    Each is a base 32 number whose digits start at "0", lowest digit first. From the third on it is the difference to
    the length two before it.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - ord("0")
        value |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:
            continue
        if digit & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts


def _is_polygon(part: Any) -> bool:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return False
    return all(isinstance(value, int | float) and abs(value) <= LARGEST_COORDINATE for value in part)

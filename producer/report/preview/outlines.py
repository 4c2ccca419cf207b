"""The outlines of masks as SVG paths, on a grid of units over the longer side of the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmill.images.preprocess import PreprocessSpec, content_box, source_box
from tagmill.records import Mask
from tagmill.tasks.masks import decode_mask

#: images from which on outlines are coarse: then their thumbnails are small, and a page must not grow too large
COARSE_FROM = 3_000
#: outlines of one mask, and the least share of the image that one encloses; the smaller ones are left out
MOST, LEAST = 12, 0.0008


@dataclass(frozen=True)
class Detail:
    """How exact outlines are."""

    #: along the longer side of an image
    units: int
    #: pixels of the model's input that a simplified outline may be off
    tolerance: float

    @classmethod
    def for_images(cls, images: int) -> "Detail":
        """Return the detail of a page of so many images."""
        return cls(256, 0.7) if images < COARSE_FROM else cls(128, 1.3)


def view_box(width: int, height: int, detail: Detail) -> tuple[int, int]:
    """Return the size of an image in units."""
    scale = detail.units / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def outline(mask: Mask, spec: PreprocessSpec, width: int, height: int, detail: Detail) -> str:
    """Return the SVG path around a mask of a width x height image, "" for an empty one."""
    left, top, right, bottom = content_box(width, height, spec)
    inside = decode_mask(mask.rle, mask.height, mask.width)[top:bottom, left:right].astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    least = LEAST * inside.size
    largest = sorted((one for one in contours if cv2.contourArea(one) >= least), key=len, reverse=True)[:MOST]
    source = source_box(width, height, spec)
    scale = np.array([(source[2] - source[0]) / spec.width, (source[3] - source[1]) / spec.height])
    units = detail.units / max(width, height)
    paths = []
    for contour in largest:
        simple = cv2.approxPolyDP(contour, detail.tolerance, closed=True)[:, 0].astype(np.float64)
        if len(simple) > 2:
            # The middle of a pixel; `source` is where the model's input begins in the image.
            points = (simple + np.array([left + 0.5, top + 0.5])) * scale + source[:2]
            paths.append(_path(np.rint(points * units).astype(np.int64)))
    return "".join(paths)


def _path(points: NDArray[np.int64]) -> str:
    """Return a closed path: its first point, and the steps to the others."""
    steps = np.diff(points, axis=0)
    moved = steps[np.any(steps != 0, axis=1)]
    return f"M{_numbers(points[0])}l{_numbers(moved.ravel())}z" if len(moved) > 1 else ""


def _numbers(values: Sequence[int] | NDArray[np.int64]) -> str:
    """Return numbers with as few characters as a path needs: a minus sign also separates."""
    return " ".join(str(int(value)) for value in values).replace(" -", "-")

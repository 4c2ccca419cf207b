"""Which pixels of a picture show the product: a segmenter's masks, what differs from a plain background, or all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmill.images.image import Pixels
from tagmill.images.preprocess import PreprocessSpec, content_box
from tagmill.records import Mask
from tagmill.tasks.masks import decode_mask

MASK, BACKGROUND, FRAME = "mask", "background", "frame"
#: labels of segmenters that are the person who wears the product
_PERSON = frozenset({"person", "skin", "face", "hair", "body", "arm", "leg", "hand", "human"})
#: width of the edge whose pixels show the background, as a share of the longer side
EDGE = 0.03
#: share of the edge's pixels that have one color if the background is plain
_PLAIN = 0.6
#: differences of colors (Delta E 1976): of one plain background, and of what certainly is another surface. 2.3 is just
#: noticeable (Mahy et al. 1994); compression and shadows take more.
_SAME, _OTHER = 6.0, 9.0
#: least share of the picture that a product takes, and least share of the largest part that another part of it takes
_LEAST, _LEAST_PART = 0.005, 0.02


class ProductMask(NamedTuple):
    """A mask, and the preprocessing of the model that gave it."""

    mask: Mask
    spec: PreprocessSpec


@dataclass(frozen=True)
class Product:
    """The pixels that show the product."""

    #: MASK, BACKGROUND or FRAME
    source: str
    #: bool [H, W]
    inside: NDArray[np.bool_]
    #: left, top, right, bottom; None if it is unknown where in the picture the product is
    box: tuple[int, int, int, int] | None


def product_of(rgb: Pixels, width: int, height: int, masks: Sequence[ProductMask]) -> Product:
    """Return the product's pixels in a picture, uint8 [H, W, 3], of an image of width x height pixels.

    Without masks, they are what differs from the color of the edge if most of the edge has one color.
    """
    for source, inside in ((MASK, _from_masks(rgb.shape[:2], width, height, masks)), (BACKGROUND, _foreground(rgb))):
        if inside is not None and inside.mean() >= _LEAST:
            return Product(source, inside, _box(inside))
    return Product(FRAME, np.ones(rgb.shape[:2], np.bool_), None)


def edge_of(shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return bool [H, W]: the pixels along the four sides."""
    wide = max(2, round(EDGE * max(shape[:2])))
    edge = np.ones(shape[:2], np.bool_)
    edge[wide:-wide, wide:-wide] = False
    return edge


def lab_of(rgb: Pixels) -> NDArray[np.float32]:
    """Return CIELAB values (D65) of sRGB pixels, float32 [H, W, 3]."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _from_masks(
    shape: Sequence[int], width: int, height: int, masks: Sequence[ProductMask]
) -> NDArray[np.bool_] | None:
    shown = [found for found in masks if found.mask.label.lower() not in _PERSON]
    if not shown:
        return None
    inside = np.zeros(shape[:2], np.bool_)
    for mask, spec in shown:
        left, top, right, bottom = content_box(width, height, spec)
        content = decode_mask(mask.rle, mask.height, mask.width)[top:bottom, left:right].astype(np.uint8)
        # A center crop shows a part of the image alone, which is taken for the whole.
        inside |= cv2.resize(content, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    return inside


def _foreground(rgb: Pixels) -> NDArray[np.bool_] | None:
    """Return what differs from a plain background; None if the edge has no single color."""
    lab, edge = lab_of(rgb), edge_of(rgb.shape)
    background = np.median(lab[edge], axis=0)
    distance = np.linalg.norm(lab - background, axis=2)
    if (distance[edge] < _SAME).mean() < _PLAIN:
        return None
    other = cv2.morphologyEx((distance > _OTHER).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    filled = _without_holes(np.asarray(other, np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    if count < 2:
        return None
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas >= max(_LEAST_PART * areas.max(), 1)
    return np.asarray(kept[parts] & (other > 0), np.bool_)


def _without_holes(inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(inside), contours, -1, 1, cv2.FILLED), np.uint8)


def _box(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

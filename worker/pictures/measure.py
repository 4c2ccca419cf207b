"""Measure one picture: everything that `tagmill check` and the view `catalog_violations` compare with limits."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmill.images.image import Pixels
from tagmill.images.preprocess import Geometry, PreprocessSpec, content_box
from tagmill.records import ImageRow, PictureRow
from worker.pictures.colors import colors_of
from worker.pictures.frame import frame_width, white_border
from worker.pictures.pattern import pattern_of
from worker.pictures.phash import perceptual_hashes
from worker.pictures.product import Product, ProductMask, product_of

#: what is measured is seen at this size, so that no value depends on the size of the file
PIXELS = PreprocessSpec(256, 256, Geometry.LETTERBOX)
#: share of the darkest and of the brightest pixels that say nothing
_OUTLIERS = 1.0


def measure_picture(pixels: Pixels, facts: ImageRow, masks: Sequence[ProductMask]) -> PictureRow:
    """Return the measures of a picture that `fit` fitted to `PIXELS`, without those of text."""
    left, top, right, bottom = content_box(facts.width, facts.height, PIXELS)
    rgb = np.ascontiguousarray(pixels[top:bottom, left:right])
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    dark, bright = np.percentile(luma, (_OUTLIERS, 100 - _OUTLIERS))
    phash, mirrored = perceptual_hashes(rgb)
    product = product_of(rgb, facts.width, facts.height, masks)
    sides = _sides(product)
    box = None if sides is None else sides * np.array([facts.width, facts.height] * 2)
    return PictureRow(
        image_sha256=facts.sha256,
        phash=phash,
        phash_mirrored=mirrored,
        product_from=product.source,
        white_border=white_border(rgb),
        product_area=None if sides is None else float(product.inside.mean()),
        product_extent=None if sides is None else float((sides[2:] - sides[:2]).max()),
        box_left=None if box is None else float(box[0]),
        box_top=None if box is None else float(box[1]),
        box_right=None if box is None else float(box[2]),
        box_bottom=None if box is None else float(box[3]),
        sharpness=float(cv2.Laplacian(luma, cv2.CV_64F).std()),
        brightness=float(bright) / 255,
        contrast=float(bright - dark) / 255,
        frame=frame_width(rgb),
        attributes=(*colors_of(rgb, product.inside), *pattern_of(rgb, product)),
    )


def _sides(product: Product) -> NDArray[np.float64] | None:
    """Return left, top, right and bottom of the product as shares of the picture; None if they are unknown."""
    if product.box is None:
        return None
    rows, columns = product.inside.shape
    return np.asarray(product.box, np.float64) / np.array([columns, rows] * 2, np.float64)

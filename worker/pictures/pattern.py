"""Whether the product is plain or patterned: how many of its inner pixels lie near an edge of color.

Folds and shadows change the lightness slowly, and cloth has fine grain: pixels are smoothed first, and a step counts
only if it exceeds what these make.
"""

import cv2
import numpy as np

from tagmill.images.image import Pixels
from worker.pictures.product import Product, lab_of

ATTRIBUTE, PLAIN, PATTERNED = "pattern", "Plain", "Patterned"
#: least gradient of a step, in units of CIELAB per pixel at 256 pixels
_STEP = 4.0
#: share of inner pixels with a step at which a product is as likely plain as patterned, and how much more of them makes
#: patterned e times as likely (`python -m benchmarks.images.attributes`)
_EVEN, _SLOPE = 0.2, 0.05
#: least number of inner pixels that say something
_LEAST = 200


def pattern_of(rgb: Pixels, product: Product) -> list[tuple[str, str, float]]:
    """Return (attribute, Plain or Patterned, likelihood); nothing if it is unknown which pixels are the product."""
    if product.box is None:
        return []
    share = step_share(rgb, product)
    if share is None:
        return []
    likely = float(1 / (1 + np.exp(-(share - _EVEN) / _SLOPE)))
    return [(ATTRIBUTE, PATTERNED, likely) if likely >= 0.5 else (ATTRIBUTE, PLAIN, 1 - likely)]


def step_share(rgb: Pixels, product: Product) -> float | None:
    """Return the share of the product's inner pixels at which the color makes a step; None if too few are inside."""
    left, top, right, bottom = product.box or (0, 0, 0, 0)
    margin = max(2, round(0.04 * max(right - left, bottom - top)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    inner = cv2.erode(product.inside.astype(np.uint8), kernel, borderValue=0).astype(np.bool_)
    if inner.sum() < _LEAST:
        return None
    lab = cv2.GaussianBlur(lab_of(rgb), (0, 0), 1.0)
    across = cv2.Sobel(lab, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    down = cv2.Sobel(lab, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return float((np.sqrt((across**2 + down**2).sum(axis=2))[inner] > _STEP).mean())

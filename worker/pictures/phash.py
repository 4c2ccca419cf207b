"""The perceptual hash of a picture, as imagehash's `phash` computes it (a test compares the two).

It is the signs of the lowest frequencies: the picture is scaled to 32 x 32 levels of gray, and of its discrete cosine
transform the first 8 x 8 coefficients are compared with their median (Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010). It is computed here because imagehash needs SciPy and PyWavelets, which a worker
would install for this alone.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.images.image import Pixels

_SIDE, _KEPT = 32, 8


def perceptual_hashes(rgb: Pixels) -> tuple[int, int]:
    """Return the hash of a picture, uint8 [H, W, 3], and that of the mirrored picture.

    Each has 64 bits, the first of which is the sign of the number.
    """
    gray = Image.fromarray(rgb).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    levels = np.asarray(gray, np.float64)
    return _hash(levels), _hash(levels[:, ::-1])


def _hash(levels: NDArray[np.float64]) -> int:
    # OpenCV scales the first row and the first column by the square root of 2 less than SciPy does.
    low = cv2.dct(np.ascontiguousarray(levels))[:_KEPT, :_KEPT]
    low[0] *= np.sqrt(2)
    low[:, 0] *= np.sqrt(2)
    return int(np.packbits(low > np.median(low)).view(">i8")[0])

"""The EXIF orientation of an image: read it, and rotate pixels upright by it."""

import struct

import cv2
import numpy as np

from tagmill.images.image import Pixels

_TAG = 0x0112
#: orientations that swap width and height
SIDEWAYS = frozenset({5, 6, 7, 8})
#: EXIF orientation to cv2.flip's code (0 rows, 1 columns, -1 both), after 5 to 8 were transposed
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}


def orientation(exif: bytes) -> int:
    """Return the orientation 1..8 in EXIF data (a TIFF header and its first directory), or 1 if it has none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * entry)
            if tag == _TAG:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    except struct.error:  # truncated metadata does not make the pixels unreadable
        pass
    return 1


def apply_orientation(rgb: Pixels, orientation: int) -> Pixels:
    """Return the image upright, uint8 [H, W, 3]."""
    if orientation in SIDEWAYS:
        rgb = np.asarray(cv2.transpose(rgb), dtype=np.uint8)
    flip = _FLIPS.get(orientation)
    return rgb if flip is None else np.asarray(cv2.flip(rgb, flip), dtype=np.uint8)

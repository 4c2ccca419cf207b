"""Cropping, rotation and mirroring of AVIF and HEIC. The EXIF orientation counts for nothing there: 23008-12, 6.5.1."""

from fractions import Fraction

import numpy as np

from tagmill.images.exif import apply_orientation
from tagmill.images.formats.heif.boxes import Fields
from tagmill.images.formats.heif.items import Property
from tagmill.outcomes import ErrorCode, ImageFailure

#: left, top, right, bottom
Box = tuple[int, int, int, int]


def orientation(properties: list[Property]) -> int:
    """Return the EXIF orientation 1..8 that does the same as the rotations and mirrorings, in their order."""
    grid = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    turned = grid
    for found in properties:
        if found.kind == b"irot":
            turned = np.rot90(turned, Fields(found.body).uint(1) & 3)
        elif found.kind == b"imir":
            turned = np.flip(turned, Fields(found.body).uint(1) & 1)
    return next(number for number in range(1, 9) if np.array_equal(apply_orientation(grid, number), turned))


def crop(properties: list[Property], width: int, height: int) -> Box:
    """Return the part of the stored image that is shown. Raises ImageFailure if it is not inside."""
    box = (0, 0, width, height)
    is_turned = False
    for found in properties:
        if found.kind in {b"irot", b"imir"}:
            is_turned = True
        elif found.kind == b"clap":
            if is_turned or box != (0, 0, width, height):
                raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, "an image cropped after its rotation is not read")
            box = _clean_aperture(found, width, height)
    return box


def _clean_aperture(found: Property, width: int, height: int) -> Box:
    """Return the box of clap, which gives its size and the distance of its center from that of the image."""
    values = [value - (value >> 31 << 32) for value in Fields(found.body).uints(8, 4)]
    if any(value <= 0 for value in values[1::2]):
        raise ImageFailure(ErrorCode.CORRUPT, "the image's crop divides by zero")
    across, down, right, below = (Fraction(*values[place : place + 2]) for place in range(0, 8, 2))
    left, top = round((width - across) / 2 + right), round((height - down) / 2 + below)
    box = left, top, left + round(across), top + round(down)
    if not (0 <= left < box[2] <= width and 0 <= top < box[3] <= height):
        raise ImageFailure(ErrorCode.CORRUPT, f"the image's crop {box} is not inside its {width}x{height} pixels")
    return box

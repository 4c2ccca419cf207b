"""Encode an item's image and mask, and write files atomically."""

import io
from enum import StrEnum
from pathlib import Path

from numpy.random import Generator
from PIL import Image

from tagmill.files import atomic_write
from tagmill.sample.item import SampleItem

#: EXIF tag of the orientation
ORIENTATION = 0x0112
#: EXIF orientation, and the rotation of upright pixels that are stored with it
STORED_ROTATIONS = (
    (3, Image.Transpose.ROTATE_180),
    (6, Image.Transpose.ROTATE_90),
    (8, Image.Transpose.ROTATE_270),
)
#: RGB of each mask label, as a palette
MASK_PALETTE = bytes.fromhex(
    "1e1e28 e6559b f5b731 3aa6dd 7a5fc0 2f6fb3 63b877 b5653a f08a4b d64545 57c9bd".replace(" ", "")
)


class FileFormat(StrEnum):
    """The format of an image file; the value is the suffix of its name."""

    #: quality 80 to 95, some progressive, some rotated with an EXIF orientation
    JPEG = "jpg"
    #: RGBA on a transparent background
    PNG = "png"
    #: lossy, quality 80
    WEBP = "webp"


def encode_image(item: SampleItem, file_format: FileFormat, rng: Generator) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    if file_format is FileFormat.PNG:
        item.image.save(buffer, "PNG", compress_level=1)
    elif file_format is FileFormat.WEBP:
        item.image.save(buffer, "WEBP", quality=80, method=0)
    else:
        _save_jpeg(item.image, buffer, rng)
    return buffer.getvalue()


def encode_mask(item: SampleItem) -> bytes:
    """Return a palette PNG whose pixel values index MASK_LABELS."""
    image = Image.fromarray(item.mask)
    image.putpalette(MASK_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically. Raise OSError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _save_jpeg(image: Image.Image, buffer: io.BytesIO, rng: Generator) -> None:
    quality, progressive = int(rng.integers(80, 96)), bool(rng.random() < 0.15)
    exif = Image.Exif()
    if rng.random() < 0.1:
        orientation, rotation = STORED_ROTATIONS[int(rng.integers(len(STORED_ROTATIONS)))]
        exif[ORIENTATION] = orientation
        image = image.transpose(rotation)
    image.save(buffer, "JPEG", quality=quality, progressive=progressive, exif=exif)

"""Write one item's image and mask, whole or not at all."""

import io
from enum import StrEnum
from pathlib import Path

from numpy.random import Generator
from PIL import Image

from tagmill.sample.item import SampleItem

#: EXIF tag of the orientation
ORIENTATION = 0x0112
#: EXIF orientation, and how upright pixels are turned to be stored under it
STORED_TURNS = (
    (3, Image.Transpose.ROTATE_180),
    (6, Image.Transpose.ROTATE_90),
    (8, Image.Transpose.ROTATE_270),
)
#: RGB of each mask label, as a palette
MASK_PALETTE = bytes.fromhex(
    "1e1e28 e6559b f5b731 3aa6dd 7a5fc0 2f6fb3 63b877 b5653a f08a4b d64545 57c9bd".replace(" ", "")
)


class FileFormat(StrEnum):
    """How an image is stored; the value is the file name's ending."""

    #: quality 80 to 95, some progressive, some stored turned with an EXIF orientation
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
    """Write a file under a temporary name and move it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _save_jpeg(image: Image.Image, buffer: io.BytesIO, rng: Generator) -> None:
    quality, progressive = int(rng.integers(80, 96)), bool(rng.random() < 0.15)
    exif = Image.Exif()
    if rng.random() < 0.1:
        orientation, turn = STORED_TURNS[int(rng.integers(len(STORED_TURNS)))]
        exif[ORIENTATION] = orientation
        image = image.transpose(turn)
    image.save(buffer, "JPEG", quality=quality, progressive=progressive, exif=exif)

"""Broken files for the sample catalog, in five kinds that take turns."""

import io
import struct
import zlib
from enum import Enum

import numpy as np

from tagmill.sample.item import CATEGORIES, draw_item


class Damage(Enum):
    """A kind of broken file."""

    #: a JPEG that ends in the middle of its pixels
    TRUNCATED = 0
    #: text in a file named .jpg
    TEXT = 1
    #: 0 bytes
    EMPTY = 2
    #: a PNG of a few bytes that announces 30000 x 30000 pixels
    BOMB = 3
    #: no file at the path in the manifest
    MISSING = 4


def damage_of(number: int) -> Damage:
    """Return the kind of broken file `number`, from 0."""
    return Damage(number % len(Damage))


def broken_bytes(damage: Damage, rng: np.random.Generator) -> bytes | None:
    """Return the bytes of a broken file, or None for a missing one."""
    match damage:
        case Damage.TRUNCATED:
            return _truncated_jpeg(rng)
        case Damage.TEXT:
            return b"<html><body>404 Not Found: this picture has moved.</body></html>\n"
        case Damage.EMPTY:
            return b""
        case Damage.BOMB:
            return _png_bomb(30_000)
        case Damage.MISSING:
            return None


def _truncated_jpeg(rng: np.random.Generator) -> bytes:
    category = CATEGORIES[int(rng.integers(len(CATEGORIES)))]
    buffer = io.BytesIO()
    draw_item(category, rng, transparent=False).image.save(buffer, "JPEG", quality=85)
    data = buffer.getvalue()
    return data[: int(len(data) * rng.uniform(0.3, 0.7))]


def _png_bomb(side: int) -> bytes:
    """Return a gray PNG whose header announces side x side pixels over the data of a few rows."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(4 * (side + 1)))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body

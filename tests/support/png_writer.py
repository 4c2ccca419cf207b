"""A PNG writer for every color type, depth, filter and interlacing, after the PNG specification (third edition)."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: color type to samples of a pixel
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: color types and their depths
KINDS = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (0, 16),
    (2, 8),
    (2, 16),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 8),
    (4, 8),
    (4, 16),
    (6, 8),
    (6, 16),
]
#: first row, first column, row step and column step of the passes of Adam7 (section 8.1)
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SIGNATURE = b"\x89PNG\r\n\x1a\n"
Samples = NDArray[np.unsignedinteger]


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk, with another checksum if one is given."""
    found = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", found)


def png(
    samples: Samples,
    color: int,
    depth: int,
    *,
    interlaced: bool = False,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
) -> bytes:
    """Return a PNG of samples [H, W, channels], with chunks before and after those of the pixels."""
    height, width = samples.shape[:2]
    passes = [samples[top::down, left::across] for top, left, down, across in _PASSES] if interlaced else [samples]
    lines = b"".join(_filtered(part, depth) for part in passes if part.size)
    packed = zlib.compress(lines)
    middle = len(packed) // 2
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    data = [chunk(b"IDAT", part) for part in (packed[:middle], b"", packed[middle:])]
    return b"".join([SIGNATURE, chunk(b"IHDR", header), *before, *data, *after, chunk(b"IEND", b"")])


def _filtered(samples: Samples, depth: int) -> bytes:
    """Return the rows with their filter bytes: None, Sub and Up in turn (section 9)."""
    rows, step = _packed(samples, depth), max(1, samples.shape[2] * depth // 8)
    lines = bytearray()
    for number, row in enumerate(rows):
        kind = number % 3
        if kind == 1:
            row = row - np.concatenate([np.zeros(step, np.uint8), row])[: len(row)]
        elif kind == 2:
            row = row - rows[number - 1]
        lines += bytes([kind]) + row.astype(np.uint8).tobytes()
    return bytes(lines)


def _packed(samples: Samples, depth: int) -> NDArray[np.uint8]:
    height = len(samples)
    if depth == 16:
        return np.frombuffer(samples.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=3)[..., 8 - depth :]
    return np.packbits(bits.reshape(height, -1), axis=1)

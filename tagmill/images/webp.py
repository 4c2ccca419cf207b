"""WebP with OpenCV, which decodes stills to the same pixels as Pillow and releases Python's global lock."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from tagmill.outcomes import ErrorCode, ImageFailure

_ALPHA = 0x10
#: chunks of a file; an animation has one for each frame
_MAX_CHUNKS = 100_000


@dataclass(frozen=True)
class WebpHeader:
    """What the chunks of the container announce (RFC 9649)."""

    width: int
    height: int
    #: frames of an animation, 0 for a still
    frames: int
    alpha: bool
    exif: bytes
    icc: bytes | None


def is_webp(data: bytes) -> bool:
    """Return whether the bytes begin like a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_header(data: bytes) -> WebpHeader:
    """Read the header from the chunks. Raises ImageFailure if the file ends early or gives no size."""
    size: tuple[int, int] | None = None
    frames, alpha, exif, icc = 0, False, b"", None
    for kind, body in _chunks(data):
        if kind == b"VP8X" and len(body) >= 10:
            size = _uint24(body, 4) + 1, _uint24(body, 7) + 1
            alpha = bool(body[0] & _ALPHA)
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"VP8 " and size is None and len(body) >= 10:
            size = (body[6] | body[7] << 8) & 0x3FFF, (body[8] | body[9] << 8) & 0x3FFF
        elif kind == b"VP8L" and size is None and len(body) >= 5:
            (bits,) = struct.unpack_from("<I", body, 1)
            size, alpha = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), bool(bits >> 28 & 1)
        elif kind == b"EXIF":
            exif = bytes(body).removeprefix(b"Exif\0\0")
        elif kind == b"ICCP":
            icc = bytes(body)
    if size is None:
        raise ImageFailure(ErrorCode.CORRUPT, "the WebP names no size")
    return WebpHeader(*size, frames, alpha, exif, icc)


def read_still(data: bytes, header: WebpHeader) -> Image.Image:
    """Return mode RGB or RGBA. Raises ImageFailure."""
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR_RGB
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageFailure(ErrorCode.CORRUPT, str(error).strip()) from error
    if pixels is None:
        raise ImageFailure(ErrorCode.CORRUPT, "the WebP's data can't be decoded")
    if pixels.shape[:2] != (header.height, header.width):
        raise ImageFailure(ErrorCode.CORRUPT, f"the WebP is {pixels.shape[1]}x{pixels.shape[0]}, not what it announces")
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA) if pixels.shape[2] == 4 else pixels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and body of each chunk."""
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + length
    if end > len(data):
        raise ImageFailure(ErrorCode.TRUNCATED, f"the WebP has {len(data)} of {end} bytes")
    view = memoryview(data)
    offset = 12
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > end:
            return
        (size,) = struct.unpack_from("<I", data, offset + 4)
        if offset + 8 + size > end:
            raise ImageFailure(ErrorCode.CORRUPT, "a chunk of the WebP reaches over its end")
        yield data[offset : offset + 4], view[offset + 8 : offset + 8 + size]
        offset += 8 + size + size % 2
    raise ImageFailure(ErrorCode.CORRUPT, f"the WebP has over {_MAX_CHUNKS} chunks")


def _uint24(body: memoryview, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 3], "little")

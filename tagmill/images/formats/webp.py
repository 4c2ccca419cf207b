"""WebP with OpenCV, which decodes to the same pixels as Pillow and releases Python's global lock.

The image, or the first frame of an animation, is taken out of its container: metadata and later frames are never read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from tagmill.images.exif import orientation
from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

_ALPHA, _ANIMATION = 0x10, 0x02
#: chunks of a file; an animation has one for each frame
_MAX_CHUNKS = 100_000
#: types of the chunks that hold pixels
_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
#: offset of a chunk's type and its body
_Chunk = tuple[bytes, memoryview]


@dataclass
class _Container:
    """What the chunks announce (RFC 9649)."""

    size: tuple[int, int] | None = None
    animated: bool = False
    frames: int = 0
    #: the chunks of the image or of the first frame
    pixels: list[_Chunk] = field(default_factory=list)
    #: left, top, width, height of the first frame
    box: tuple[int, int, int, int] | None = None
    exif: bytes = b""
    icc: bytes | None = None


def read_webp(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the image, or an animation's first frame on a white canvas. Raises ImageFailure."""
    found = _read_container(data)
    box = found.box or (0, 0, *(found.size or _size(found.pixels)))
    width, height = found.size or box[2:]
    limits.check_size(width, height)
    limits.check_frames(found.frames)
    left, top, wide, high = box
    if left + wide > width or top + high > height:
        raise ImageFailure(ErrorCode.CORRUPT, "the first frame of the WebP reaches over its canvas")
    image = _decoded(found.pixels, wide, high)
    if (wide, high) != (width, height):
        canvas = Image.new("RGB", (width, height), "white")
        canvas.paste(image, (left, top), mask=image if image.mode == "RGBA" else None)
        image = canvas
    return Still(image, found.icc, orientation(found.exif))


def _read_container(data: bytes) -> _Container:
    """Read the chunks. A file that ends early, or whose later chunks are damaged, is read if it holds a whole still."""
    found = _Container()
    try:
        for kind, body in _chunks(data):
            _note(found, kind, body)
    except ImageFailure:
        if found.animated or not any(kind != b"ALPH" for kind, _ in found.pixels):
            raise
    if not found.pixels:
        raise ImageFailure(ErrorCode.CORRUPT, "the WebP holds no image")
    return found


def _note(found: _Container, kind: bytes, body: memoryview) -> None:
    if kind == b"VP8X" and len(body) >= 10:
        found.size = _uint24(body, 4) + 1, _uint24(body, 7) + 1
        found.animated = bool(body[0] & _ANIMATION)
    elif kind == b"ANMF":
        found.frames += 1
        if found.frames == 1:
            _note_first_frame(found, body)
    elif kind in _PIXELS and not found.frames and kind not in {known for known, _ in found.pixels}:
        found.pixels.append((kind, body))
    elif kind == b"EXIF":
        found.exif = bytes(body).removeprefix(b"Exif\0\0")
    elif kind == b"ICCP":
        found.icc = bytes(body)


def _note_first_frame(found: _Container, body: memoryview) -> None:
    if len(body) < 16:
        raise ImageFailure(ErrorCode.CORRUPT, "the first frame of the WebP has no size")
    found.animated = True
    found.box = 2 * _uint24(body, 0), 2 * _uint24(body, 3), _uint24(body, 6) + 1, _uint24(body, 9) + 1
    found.pixels = [(kind, part) for kind, part in _split(body, 16, len(body)) if kind in _PIXELS]


def _size(pixels: list[_Chunk]) -> tuple[int, int]:
    """Return width and height from the first chunk of a file that has no header of its own for them."""
    kind, body = pixels[0]
    if kind == b"VP8 " and len(body) >= 10:
        return (body[6] | body[7] << 8) & 0x3FFF, (body[8] | body[9] << 8) & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5:
        (bits,) = struct.unpack_from("<I", body, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise ImageFailure(ErrorCode.CORRUPT, "the WebP names no size")


def _decoded(pixels: list[_Chunk], width: int, height: int) -> Image.Image:
    """Return mode RGB or RGBA."""
    kinds = dict(pixels)
    lossless = kinds.get(b"VP8L")
    alpha = b"ALPH" in kinds if lossless is None else len(lossless) >= 5 and bool(lossless[4] & 0x10)
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR_RGB
    file = np.frombuffer(_file(pixels, width, height, alpha), dtype=np.uint8)
    try:
        found = cv2.imdecode(file, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageFailure(ErrorCode.CORRUPT, str(error).strip()) from error
    if found is None:
        raise ImageFailure(ErrorCode.CORRUPT, "the WebP's data can't be decoded")
    if found.shape[:2] != (height, width):
        raise ImageFailure(ErrorCode.CORRUPT, f"the WebP is {found.shape[1]}x{found.shape[0]}, not what it announces")
    return Image.fromarray(cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA) if found.shape[2] == 4 else found)


def _file(pixels: list[_Chunk], width: int, height: int, alpha: bool) -> bytes:
    """Return a WebP of one image and no metadata."""
    parts: list[bytes | memoryview] = []
    if any(kind == b"ALPH" for kind, _ in pixels):
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        parts += [b"VP8X\x0a\0\0\0", bytes([_ALPHA if alpha else 0, 0, 0, 0]) + size]
    for kind, body in pixels:
        parts += [kind + struct.pack("<I", len(body)), body, bytes(len(body) % 2)]
    length = sum(len(part) for part in parts)
    return b"".join([b"RIFF" + struct.pack("<I", length + 4) + b"WEBP", *parts])


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield type and body of each chunk, then raise ImageFailure if the file is shorter than it says."""
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + length
    yield from _split(memoryview(data), 12, min(end, len(data)), is_cut=end > len(data))
    if end > len(data):
        raise ImageFailure(ErrorCode.TRUNCATED, f"the WebP has {len(data)} of {end} bytes")


def _split(view: memoryview, offset: int, end: int, is_cut: bool = False) -> Iterator[_Chunk]:
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > end:
            return
        (size,) = struct.unpack_from("<I", view, offset + 4)
        if offset + 8 + size > end:
            code = ErrorCode.TRUNCATED if is_cut else ErrorCode.CORRUPT
            raise ImageFailure(code, "a chunk of the WebP reaches over its end")
        yield bytes(view[offset : offset + 4]), view[offset + 8 : offset + 8 + size]
        offset += 8 + size + size % 2
    raise ImageFailure(ErrorCode.CORRUPT, f"the WebP has over {_MAX_CHUNKS} chunks")


def _uint24(body: memoryview, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 3], "little")

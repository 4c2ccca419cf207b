"""PNG: keep the chunks that pixels depend on, and decode those alone.

Pillow decodes them. It never sees text, profiles and other metadata, on which it would refuse a sound image.
"""

import io
import struct
import zlib
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from tagmill.images.color import MAX_PROFILE
from tagmill.images.exif import orientation
from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
#: bits per sample of each color type
_DEPTHS = {
    _GRAY: {1, 2, 4, 8, 16},
    _RGB: {8, 16},
    _PALETTE: {1, 2, 4, 8},
    _GRAY_ALPHA: {8, 16},
    _RGB_ALPHA: {8, 16},
}
#: chunks up to the end of the first frame; encoders write data chunks of 8 KB or more
_MAX_CHUNKS = 100_000


@dataclass
class _Chunks:
    """What stands up to the end of the first frame."""

    width: int
    height: int
    depth: int
    color: int
    header: bytes
    palette: bytes = b""
    transparency: bytes = b""
    icc: bytes | None = None
    orientation: int = 1
    frames: int = 1
    #: the chunks of the pixels, with length and checksum
    pixels: list[memoryview] = field(default_factory=list)


def read_png(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the image, which is the first frame of most animations. Raises ImageFailure."""
    chunks = _read_chunks(data, limits)
    limits.check_frames(chunks.frames)
    image = _decoded(chunks)
    return Still(_with_transparency(image, chunks), chunks.icc, chunks.orientation)


def _read_chunks(data: bytes, limits: DecodeLimits) -> _Chunks:
    """Return the chunks. A checksum counts if pixels depend on its chunk; other damaged chunks are left out."""
    if data[12:16] == b"CgBI":
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, "Apple's variant of PNG (CgBI) is not read")
    view = memoryview(data)
    chunks: _Chunks | None = None
    offset = 8
    for _ in range(_MAX_CHUNKS):
        if offset + 12 > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, "the PNG ends before its pixels do")
        length, kind = struct.unpack_from(">I4s", data, offset)
        if chunks and chunks.pixels and kind != b"IDAT":
            return chunks
        end = offset + 12 + length
        if end > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, f"the PNG ends in its chunk {kind!r}")
        is_sound = zlib.crc32(view[offset + 4 : end - 4]) == struct.unpack_from(">I", data, end - 4)[0]
        if not is_sound and _is_needed(kind, chunks):
            raise ImageFailure(ErrorCode.CORRUPT, f"the checksum of the PNG's chunk {kind!r} differs")
        if chunks is None:
            chunks = _header(kind, data[offset:end])
            limits.check_size(chunks.width, chunks.height)
        elif kind == b"IDAT":
            chunks.pixels.append(view[offset:end])
        elif is_sound:
            _keep(chunks, kind, data[offset + 8 : end - 4])
        offset = end
        if chunks.pixels and offset == len(data):  # only the end chunk is missing
            return chunks
    raise ImageFailure(ErrorCode.CORRUPT, f"the PNG has over {_MAX_CHUNKS} chunks")


def _is_needed(kind: bytes, chunks: _Chunks | None) -> bool:
    if chunks is None or kind == b"IDAT":
        return True
    if kind == b"PLTE":
        return chunks.color == _PALETTE
    return kind == b"tRNS" and chunks.color in {_GRAY, _RGB, _PALETTE}


def _header(kind: bytes, chunk: bytes) -> _Chunks:
    if kind != b"IHDR" or len(chunk) != 25:
        raise ImageFailure(ErrorCode.CORRUPT, "the PNG does not begin with its header")
    width, height, depth, color, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", chunk, 8)
    if depth not in _DEPTHS.get(color, ()) or compression or filtering or interlace > 1:
        raise ImageFailure(ErrorCode.CORRUPT, f"the PNG announces color type {color} with {depth} bits")
    return _Chunks(width, height, depth, color, chunk)


def _keep(chunks: _Chunks, kind: bytes, body: bytes) -> None:
    """Keep what a chunk before the pixels says about them."""
    if kind == b"PLTE":
        chunks.palette = chunks.palette or body
    elif kind == b"tRNS":
        chunks.transparency = chunks.transparency or body
    elif kind == b"iCCP":
        chunks.icc = chunks.icc or _profile(body)
    elif kind == b"eXIf":
        chunks.orientation = orientation(body.removeprefix(b"Exif\0\0"))
    elif kind == b"acTL" and len(body) == 8:
        chunks.frames = int.from_bytes(body[:4])
    elif kind[:1].isupper():
        raise ImageFailure(ErrorCode.CORRUPT, f"the PNG has an unknown critical chunk {kind!r}")


def _profile(body: bytes) -> bytes | None:
    """Return the color profile, or None if it cannot be unpacked or is too large."""
    name, _, packed = body.partition(b"\0")
    try:
        profile = zlib.decompressobj().decompress(packed[1:], MAX_PROFILE + 1)
    except zlib.error:
        return None
    return profile if len(name) < 80 and 0 < len(profile) <= MAX_PROFILE else None


def _decoded(chunks: _Chunks) -> Image.Image:
    """Return mode L, I;16, LA, RGB or RGBA, with the transparent colors of a palette on white."""
    palette = b""
    if chunks.color == _PALETTE:
        colors = _palette_on_white(chunks)
        palette = struct.pack(">I", len(colors)) + b"PLTE" + colors
        palette += struct.pack(">I", zlib.crc32(palette[4:]))
    with Image.open(io.BytesIO(_file(chunks, palette)), formats=("PNG",)) as image:
        image.load()
    if image.mode == "P":
        return image.convert("RGB")
    return image.convert("L") if image.mode == "1" else image


def _file(chunks: _Chunks, palette: bytes = b"") -> bytes:
    return b"".join([_SIGNATURE, chunks.header, palette, *chunks.pixels, _END])


def _palette_on_white(chunks: _Chunks) -> bytes:
    """Return a color for each index, black for those that the palette lacks."""
    if not chunks.palette or len(chunks.palette) % 3:
        raise ImageFailure(ErrorCode.CORRUPT, f"the PNG has a palette of {len(chunks.palette)} bytes")
    listed = np.frombuffer(chunks.palette, dtype=np.uint8).reshape(-1, 3)[: 1 << chunks.depth]
    colors = np.zeros((1 << chunks.depth, 3), dtype=np.uint16)
    colors[: len(listed)] = listed
    alpha = np.full((1 << chunks.depth, 1), 255, dtype=np.uint16)
    # libpng ignores more values than there are colors
    if len(chunks.transparency) * 3 <= len(chunks.palette):
        clear = np.frombuffer(chunks.transparency, dtype=np.uint8)[: 1 << chunks.depth]
        alpha[: len(clear), 0] = clear
    return ((colors * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8).tobytes()


def _with_transparency(image: Image.Image, chunks: _Chunks) -> Image.Image:
    """Return 8 bits a sample; pixels of the transparent color are white. Of 16 bits, all are compared."""
    expected = {_GRAY: 1, _RGB: 3}.get(chunks.color, 0)
    key: tuple[int, ...] = ()
    if expected and len(chunks.transparency) == 2 * expected:
        # Bits above the depth are ignored, as in libpng.
        key = tuple(value & (1 << chunks.depth) - 1 for value in struct.unpack(f">{expected}H", chunks.transparency))
    if chunks.depth == 16 and chunks.color == _GRAY:
        values = np.asarray(image)
        gray = (values >> 8).astype(np.uint8)
        if key:
            gray[values == key[0]] = 255
        return Image.fromarray(gray)
    if not key:
        return image
    if chunks.depth == 16:
        return _deep_color_on_white(image, chunks, key)
    scale = 255 // ((1 << chunks.depth) - 1)
    image.info["transparency"] = key if expected == 3 else key[0] * scale
    return image


def _deep_color_on_white(image: Image.Image, chunks: _Chunks, key: tuple[int, ...]) -> Image.Image:
    """Return 16-bit RGB with the transparent color on white. Pillow reads 8 bits, which many colors share."""
    deep = cv2.imdecode(np.frombuffer(_file(chunks), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.shape != (chunks.height, chunks.width, 3):
        raise ImageFailure(ErrorCode.CORRUPT, "the PNG's 16-bit colors cannot be decoded")
    pixels = np.array(image)
    pixels[(deep == key[::-1]).all(axis=2)] = 255
    return Image.fromarray(pixels)

"""PNG: keep the chunks that pixels depend on, and decode those alone with OpenCV (libpng).

The decoder never sees text, profiles and other metadata, so none of them makes it refuse a sound image. It gives all 16
bits, refuses missing rows, which Pillow leaves black, and releases Python's global lock.
"""

import struct
import zlib
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.images.color import MAX_PROFILE
from tagmill.images.exif import orientation
from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: pixels that libpng accepts in a row and in a column
_MAX_SIDE = 1_000_000
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
#: transfer functions of high dynamic range in a cICP chunk (ITU-T H.273): PQ and HLG
_HDR = frozenset({b"\x10", b"\x12"})
#: chunks up to the end of the first frame; encoders write data chunks of 8 KB or more
_MAX_CHUNKS = 100_000
#: most bytes that zlib inflates in one call
_OUTPUT_CHUNK = 1 << 20


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
    pixels = _decoded(chunks)
    if key := _transparent_color(chunks):
        is_clear = pixels == key[0] if chunks.color == _GRAY else (pixels == key[::-1]).all(axis=2)
        pixels[is_clear] = (1 << 16) - 1 if chunks.depth == 16 else 255
    if chunks.depth == 16:
        np.right_shift(pixels, 8, out=pixels)  # in place: it is the largest array
        pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3:
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        pixels = np.asarray(cv2.cvtColor(pixels, order), dtype=np.uint8)
    if chunks.color not in {_GRAY_ALPHA, _RGB_ALPHA}:
        return Still(Image.fromarray(pixels), chunks.icc, chunks.orientation)
    color = pixels[:, :, 0] if chunks.color == _GRAY_ALPHA else pixels[:, :, :3]
    alpha = Image.fromarray(np.ascontiguousarray(pixels[:, :, 3]))
    return Still(Image.fromarray(np.ascontiguousarray(color)), chunks.icc, chunks.orientation, alpha)


def _read_chunks(data: bytes, limits: DecodeLimits) -> _Chunks:
    """Return the chunks. A checksum counts if pixels depend on its chunk; other damaged chunks are left out."""
    if data[12:16] == b"CgBI":
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, "Apple's variant of PNG (CgBI) is not read")
    view = memoryview(data)
    chunks: _Chunks | None = None
    offset = 8
    for _ in range(_MAX_CHUNKS):
        if offset + 12 > len(data):
            if chunks and chunks.pixels:
                return chunks
            raise ImageFailure(ErrorCode.TRUNCATED, "the PNG ends before its pixels")
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
            if max(chunks.width, chunks.height) > _MAX_SIDE:
                raise ImageFailure(ErrorCode.TOO_MANY_PIXELS, f"a side of the PNG is over {_MAX_SIDE} pixels")
        elif kind == b"IDAT":
            chunks.pixels.append(view[offset:end])
        elif is_sound:
            _keep(chunks, kind, data[offset + 8 : end - 4])
        offset = end
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
    elif kind == b"cICP" and body[1:2] in _HDR:
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, "a PNG of high dynamic range (PQ, HLG) is not read")
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


def _decoded(chunks: _Chunks) -> NDArray[np.unsignedinteger]:
    """Return [H, W] of gray, else [H, W, 3 or 4] in BGR; of 8 bits, or of 16. Palettes lie on white."""
    palette = b""
    if chunks.color == _PALETTE:
        colors = _palette_on_white(chunks)
        palette = struct.pack(">I", len(colors)) + b"PLTE" + colors
        palette += struct.pack(">I", zlib.crc32(palette[4:]))
    file = b"".join([_SIGNATURE, chunks.header, palette, *chunks.pixels, _END])
    pixels = cv2.imdecode(np.frombuffer(file, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise _damage(chunks)
    return np.asarray(pixels)


def _damage(chunks: _Chunks) -> ImageFailure:
    """Return why libpng refused the pixels: they end early, or they are damaged in spite of their checksums."""
    samples = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGB_ALPHA: 4}[chunks.color]
    left = chunks.height * (1 + -(-chunks.width * samples * chunks.depth // 8))
    inflate = zlib.decompressobj()
    try:
        for part in chunks.pixels:
            packed = bytes(part[8:-4])
            while packed and left > 0:
                left -= len(inflate.decompress(packed, _OUTPUT_CHUNK))
                packed = inflate.unconsumed_tail
    except zlib.error as error:
        return ImageFailure(ErrorCode.CORRUPT, f"the PNG's pixels: {error}")
    if left > 0:
        return ImageFailure(ErrorCode.TRUNCATED, "the PNG's pixels end before its last row")
    return ImageFailure(ErrorCode.CORRUPT, "the PNG's pixels cannot be decoded")


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


def _transparent_color(chunks: _Chunks) -> tuple[int, ...]:
    """Return the transparent gray or RGB value as it is decoded, or nothing."""
    expected = {_GRAY: 1, _RGB: 3}.get(chunks.color, 0)
    if not expected or len(chunks.transparency) != 2 * expected:
        return ()
    most = (1 << chunks.depth) - 1
    scale = 1 if chunks.depth == 16 else 255 // most
    # Bits above the depth are ignored, as in libpng.
    return tuple((value & most) * scale for value in struct.unpack(f">{expected}H", chunks.transparency))

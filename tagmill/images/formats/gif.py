"""GIF: Pillow unpacks the first frame's indices and sees nothing else; colors and canvas are laid out here."""

import io
import struct
from dataclasses import dataclass

from PIL import Image

from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

#: extensions of a file; an animation has one or two for each frame
_MAX_EXTENSIONS = 100_000
_IMAGE, _EXTENSION, _GRAPHIC_CONTROL = 0x2C, 0x21, 0xF9


@dataclass
class _First:
    """The first frame: its place on the canvas (left, top, right, bottom), its colors, and what is transparent."""

    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    colors: bytes = b""
    transparent: int | None = None
    interlaced: bool = False
    #: the compressed indices, from their width to the last block
    indices: bytes = b""


def read_gif(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the first frame on a white canvas, as browsers lay it on a transparent one. Raises ImageFailure."""
    first, frames = _scan(data, limits.max_frames)
    limits.check_frames(frames)
    left, top, right, bottom = first.box
    limits.check_size(right - left, bottom - top)
    # As in browsers, a first frame that is larger than the canvas enlarges it.
    width, height = (max(low) for low in zip(struct.unpack_from("<HH", data, 6), (right, bottom), strict=True))
    limits.check_size(width, height)
    if not first.colors:
        raise ImageFailure(ErrorCode.CORRUPT, "the GIF has no color table")
    colors = first.colors.ljust(768, b"\0")
    if first.transparent is not None:
        colors = colors[: 3 * first.transparent] + b"\xff" * 3 + colors[3 * first.transparent + 3 :]
    with Image.open(io.BytesIO(_indices_alone(first)), formats=("GIF",)) as image:
        image.load()
    image.putpalette(colors)
    pixels = image.convert("RGB")
    if first.box == (0, 0, width, height):
        return Still(pixels)
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(pixels, (left, top))
    return Still(canvas)


def _indices_alone(first: _First) -> bytes:
    """Return a GIF of the first frame without colors or extensions, which Pillow reads as gray."""
    left, top, right, bottom = first.box
    size = struct.pack("<HH", right - left, bottom - top)
    flags = bytes([0x40 * first.interlaced])
    return b"GIF89a" + size + bytes(3) + b"\x2c" + bytes(4) + size + flags + first.indices


def _scan(data: bytes, limit: int) -> tuple[_First, int]:
    """Return the first frame, and the number of frames; counting stops at `limit` + 1.

    Follows the lengths of the blocks (GIF89a specification, sections 17 to 26).
    """
    if len(data) < 13:
        raise ImageFailure(ErrorCode.TRUNCATED, "the GIF ends in its header")
    first = _First()
    frames, extensions, offset, pixels = 0, 0, _end_of_color_table(13, data[10]), 0
    shared = data[13:offset]
    while offset < len(data) and frames <= limit:
        kind = data[offset]
        if kind == _IMAGE and offset + 10 < len(data):
            frames += 1
            end = _end_of_color_table(offset + 10, data[offset + 9])
            if frames == 1:
                left, top, width, height = (
                    int.from_bytes(data[place : place + 2], "little") for place in range(offset + 1, offset + 9, 2)
                )
                first.box = left, top, left + width, top + height
                first.interlaced = bool(data[offset + 9] & 0x40)
                first.colors = data[offset + 10 : end] or shared
                if len(first.colors) % 3:
                    raise ImageFailure(ErrorCode.TRUNCATED, "the GIF ends in a color table")
                pixels = end
            offset = end + 1
        elif kind == _EXTENSION:
            extensions += 1
            if extensions > _MAX_EXTENSIONS:
                raise ImageFailure(ErrorCode.CORRUPT, f"the GIF has over {_MAX_EXTENSIONS} extensions")
            control = data[offset + 1 : offset + 8]
            if frames == 0 and len(control) == 7 and control[:2] == bytes([_GRAPHIC_CONTROL, 4]):
                first.transparent = control[5] if control[2] & 1 else None
            offset += 2
        else:
            break
        while offset < len(data) and data[offset]:
            offset += 1 + data[offset]
        offset += 1
        if pixels and not first.indices:
            first.indices = data[pixels:offset]
    if not first.indices:
        code = ErrorCode.TRUNCATED if offset >= len(data) else ErrorCode.CORRUPT
        raise ImageFailure(code, "the GIF has no frame")
    return first, frames


def _end_of_color_table(start: int, flags: int) -> int:
    """Return the end of the color table at `start`; `flags` says whether there is one, and its size."""
    return start + (3 << (flags & 7) + 1 if flags & 0x80 else 0)

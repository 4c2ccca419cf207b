"""BMP of any header version: palettes, bit masks, alpha and run lengths.

NumPy reads it, because Pillow knows eleven bit masks, and gives pixels that run lengths leave out the first color.
"""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.images.formats.still import Still
from tagmill.images.image import DecodeLimits, Pixels
from tagmill.outcomes import ErrorCode, ImageFailure

_RGB, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_UNREAD = {4: "a JPEG inside", 5: "a PNG inside"}
#: bits of a pixel for each compression
_BITS = {_RGB: {1, 2, 4, 8, 16, 24, 32}, _RLE8: {8}, _RLE4: {4}, _MASKS: {16, 32}, _ALPHA_MASKS: {16, 32}}
#: bytes of a header: OS/2 1, OS/2 2 (short and long), Windows 3 with no, three and four masks, 4 and 5
_HEADERS = frozenset({12, 16, 64, 40, 52, 56, 108, 124})
_OS2 = frozenset({16, 64})
#: masks of red, green, blue and alpha where the file holds none
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
#: pixels that are converted at a time
_BAND = 1 << 20


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, ...]
    #: [colors, 3]
    palette: Pixels
    #: offset of the pixels
    start: int
    icc: bytes | None


def read_bmp(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the image. Raises ImageFailure."""
    header = _read_header(data, limits)
    if header.compression in {_RLE8, _RLE4}:
        indices, covered = _run_lengths(data, header)
        pixels = header.palette[indices]
        pixels[~covered] = 255  # browsers leave these pixels transparent
    else:
        pixels = _rows(data, header)
    if not header.top_down:
        pixels = np.asarray(cv2.flip(pixels, 0), dtype=np.uint8)
    return Still(Image.fromarray(pixels), header.icc)


def _read_header(data: bytes, limits: DecodeLimits) -> _Header:
    if len(data) < 26:
        raise ImageFailure(ErrorCode.TRUNCATED, "the BMP ends in its header")
    start, size = struct.unpack_from("<II", data, 10)
    if size not in _HEADERS:
        raise ImageFailure(ErrorCode.CORRUPT, f"the BMP has a header of {size} bytes")
    compression = colors = 0
    if size == 12:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
    else:
        # A header of 16 bytes ends with the bits; zeros stand for what it lacks.
        fields = data[18 : 14 + size].ljust(122, b"\0")
        width, height, _, bits, compression, _, _, _, colors = struct.unpack_from("<iiHHIIiiI", fields)
    limits.check_size(width, abs(height))
    if size in _OS2 and compression in {3, 4}:
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, "a BMP with Huffman or 24-bit run lengths is not read")
    if compression in _UNREAD or (compression == _RGB and bits == 64):
        detail = _UNREAD.get(compression, "64 bits")
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"a BMP with {detail} is not read")
    if bits not in _BITS.get(compression, ()) or (height < 0 and compression in {_RLE8, _RLE4}):
        raise ImageFailure(ErrorCode.CORRUPT, f"the BMP announces {bits} bits with compression {compression}")
    masks, end = _DEFAULT_MASKS.get(bits, ()), 14 + size
    if compression in {_MASKS, _ALPHA_MASKS}:
        number = 4 if size >= 56 or compression == _ALPHA_MASKS else 3
        masks = struct.unpack_from(f"<{number}I", data.ljust(70, b"\0"), 54) + (0,) * (4 - number)
        end = max(end, 54 + 4 * number)
    entry = 3 if size == 12 else 4
    listed = (colors or 1 << bits) if bits <= 8 else 0
    if start >= end:
        listed = min(listed, (start - end) // entry)
    else:  # some writers leave out the offset: the pixels follow the palette
        start = end + entry * listed
    table = np.frombuffer(data[end : end + entry * min(listed, 256)], dtype=np.uint8)
    table = table[: len(table) // entry * entry].reshape(-1, entry)[:, 2::-1]
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(table)] = table
    icc = _profile(data) if size == 124 else None
    return _Header(width, abs(height), height < 0, bits, compression, masks, palette, start, icc)


def _profile(data: bytes) -> bytes | None:
    if data[70:74] != b"DEBM":
        return None
    start, length = struct.unpack_from("<II", data, 126)
    return data[14 + start : 14 + start + length] or None


def _rows(data: bytes, header: _Header) -> Pixels:
    """Return uint8 [H, W, 3 or 4] of an image without run lengths, in the order of the file."""
    used = -(-header.width * header.bits // 8)
    stride = -(-header.width * header.bits // 32) * 4
    # The last row may lack its padding.
    if header.start + stride * (header.height - 1) + used > len(data):
        raise ImageFailure(ErrorCode.TRUNCATED, "the BMP ends before its last row")
    body = data[header.start : header.start + stride * header.height].ljust(stride * header.height, b"\0")
    raw = np.frombuffer(body, dtype=np.uint8).reshape(header.height, stride)
    if header.bits == 24:
        colors = raw[:, : 3 * header.width].reshape(header.height, header.width, 3)
        return np.asarray(cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    has_alpha = header.bits > 8 and header.masks[3] != 0
    pixels = np.empty((header.height, header.width, 4 if has_alpha else 3), dtype=np.uint8)
    rows = max(1, _BAND // header.width)
    for top in range(0, header.height, rows):
        part = raw[top : top + rows]
        pixels[top : top + rows] = _indexed(part, header) if header.bits <= 8 else _masked(part, header)
    # As in Chrome: writers that know no alpha leave zeros there.
    return pixels[:, :, :3].copy() if has_alpha and not pixels[:, :, 3].any() else pixels


def _indexed(raw: Pixels, header: _Header) -> Pixels:
    if header.bits < 8:
        bits = np.unpackbits(raw, axis=1)[:, : header.width * header.bits]
        bits = bits.reshape(len(raw), header.width, header.bits)
        raw = np.packbits(bits, axis=2)[:, :, 0] >> np.uint8(8 - header.bits)
    return header.palette[raw[:, : header.width]]


def _masked(raw: Pixels, header: _Header) -> NDArray[np.unsignedinteger]:
    values = raw.view(f"<u{header.bits // 8}")[:, : header.width]
    channels = []
    for mask in header.masks:
        if mask == 0:
            channels.append(np.zeros(values.shape, dtype=np.uint8))
            continue
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        if most & (most + 1) or mask >> header.bits:
            raise ImageFailure(ErrorCode.CORRUPT, f"the BMP has the bit mask {mask:#x}")
        level = (values & mask).astype(np.uint64) >> np.uint64(shift)
        channels.append(((level * 255 + most // 2) // most).astype(np.uint8))
    return np.stack(channels if header.masks[3] else channels[:3], axis=2)


def _run_lengths(data: bytes, header: _Header) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the indices, uint8 [H, W], and which of them the file gives; a run ends with its row."""
    width, height, half = header.width, header.height, header.compression == _RLE4
    indices, covered = bytearray(width * height), bytearray(width * height)
    column, row, place = 0, 0, header.start
    while row < height:
        if place + 2 > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, "the BMP ends before its last row")
        count, value = data[place], data[place + 1]
        place += 2
        # a delta takes two bytes more, and indices as they are take up to one each
        if count == 0 and value > 1 and place + (2 if value == 2 else -(-value // 2) if half else value) > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, "the BMP ends before its last row")
        if count:
            run = bytes((value >> 4, value & 15)) * (count // 2 + 1) if half else bytes((value,)) * count
        elif value == 0:
            column, row = 0, row + 1
            continue
        elif value == 1:
            break
        elif value == 2:
            column, row = column + data[place], row + data[place + 1]
            place += 2
            continue
        else:
            count = value
            length = -(-count // 2) if half else count
            run = data[place : place + length]
            if half:
                run = bytes(part for byte in run for part in (byte >> 4, byte & 15))
            place += length + length % 2
        count = max(0, min(count, width - column, len(run)))
        at = row * width + column
        indices[at : at + count] = run[:count]
        covered[at : at + count] = b"\1" * count
        column += count
    shape = height, width
    return np.frombuffer(indices, np.uint8).reshape(shape), np.frombuffer(covered, np.bool_).reshape(shape)

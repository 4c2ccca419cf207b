"""TIFF: the checks that Pillow leaves out (directory, tiles, checksums, pages), and 9 to 16-bit gray."""

# Not tifffile 2026.3.3: it needs imagecodecs (26 MB wheel, 80 MB installed) for LZW, JPEG, CCITT and 12 bits, takes
# 772 MiB and 2.4 s for a 16x16 image in a 16384x16384 tile, accepts a truncated JPEG strip, and returns CMYK as stored.

import struct
import zlib
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from tagmill.images.image import DecodeLimits, Pixels
from tagmill.outcomes import ErrorCode, ImageFailure

_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_TILE_WIDTH, _TILE_LENGTH = 322, 323
#: tags of offsets and lengths: of strips, of tiles
_DATA_TAGS = ((273, 279), (324, 325))
_WHITE_IS_ZERO = 0
_DEFLATE = frozenset({8, 32946})
#: most bytes of a pixel: four samples of 16 bits
_MAX_PIXEL_BYTES = 8
#: most bytes that zlib inflates in one call
_OUTPUT_CHUNK = 1 << 20
#: compressed bytes passed to zlib in one call: it copies what it does not consume
_INPUT_CHUNK = 1 << 16
#: Numbers of a tag, each of which Pillow turns into an object. The largest image in tiles of 16x16 has fewer offsets.
_MAX_NUMBERS = 500_000
#: entries of a directory, one for each of the 16-bit tags
_MAX_ENTRIES = 1 << 16
#: types whose values Pillow keeps as bytes, however many: BYTE, ASCII, UNDEFINED
_BYTE_TYPES = frozenset({1, 2, 7})
#: types that a tile's side may have, and their struct format: SHORT, LONG, and LONG8 of a BigTIFF
_INTEGERS = {3: "H", 4: "I", 16: "Q"}
#: Pixels of a tile that any image may have. Writers use one tile size for all images: 256x256, 512x512, rarely more.
_USUAL_TILE = 2048 * 2048
#: pixels that a larger tile may have, as a multiple of the image's: sides are rounded up to powers of two
_MAX_TILE_RATIO = 4
#: raised by `struct` for offsets beyond the end of the file
_BEYOND_END = (struct.error, OverflowError)


class _Entry(NamedTuple):
    """One entry of a directory. `field` holds the values, or their offset if they do not fit."""

    tag: int
    kind: int
    values: int
    field: bytes


def check_directory(data: bytes) -> None:
    """Raise ImageFailure if the directory ends early, or a tag has more values than any image needs."""
    try:
        entries, _ = _directory(data, _first_directory(data))
    except _BEYOND_END as error:
        raise ImageFailure(ErrorCode.TRUNCATED, "the TIFF ends before its list of tags") from error
    for entry in entries:
        stays_bytes = entry.kind in _BYTE_TYPES and entry.tag not in chain(*_DATA_TAGS)
        if entry.values > _MAX_NUMBERS and not stays_bytes:
            raise ImageFailure(ErrorCode.CORRUPT, f"tag {entry.tag} of the TIFF has {entry.values} values")


def check_tiles(data: bytes, width: int, height: int, limits: DecodeLimits) -> None:
    """Raise ImageFailure for tiles far larger than the image: libtiff allocates a whole tile.

    Strips need no such check: libtiff and Pillow end the first one at the last row of the image.
    """
    sides = {_TILE_WIDTH: 0, _TILE_LENGTH: 0}
    # Read from the bytes: of a tag that occurs twice, once with an odd type, Pillow and libtiff use different entries.
    for entry in _directory(data, _first_directory(data))[0]:
        if entry.tag in sides:
            sides[entry.tag] = max(sides[entry.tag], _read_integer(data, entry))
    wide, long = sides.values()
    if wide * long > min(limits.max_pixels, max(_USUAL_TILE, _MAX_TILE_RATIO * width * height)):
        detail = f"tiles of {wide}x{long} pixels for an image of {width}x{height}"
        raise ImageFailure(ErrorCode.TOO_MANY_PIXELS, detail)


def check_data(image: ImageFile.ImageFile, data: bytes) -> None:
    """Check the checksums at the ends of deflated strips; libtiff does not read that far. Raises ImageFailure."""
    tags = _tags(image)
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    left = image.width * image.height * _MAX_PIXEL_BYTES + _OUTPUT_CHUNK
    for start, length in _strips(image):
        inflate, offset, end = zlib.decompressobj(), start, start + length
        while not inflate.eof and left > 0:
            packed = inflate.unconsumed_tail
            if not packed:
                packed = data[offset : min(offset + _INPUT_CHUNK, end)]
                offset += len(packed)
            try:
                plain = inflate.decompress(packed, _OUTPUT_CHUNK)
            except zlib.error as error:
                raise ImageFailure(ErrorCode.CORRUPT, f"a strip of the TIFF: {error}") from error
            left -= len(plain)
            if not packed and not plain and not inflate.eof:
                raise ImageFailure(ErrorCode.TRUNCATED, "a strip of the TIFF ends early")


def ends_early(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Return whether a strip or tile reaches beyond the end of the file."""
    return any(start + length > len(data) for start, length in _strips(image))


def count_pages(data: bytes, limit: int) -> int:
    """Return the number of pages without reading their contents; counting stops at `limit` + 1."""
    seen: set[int] = set()
    offset = _first_directory(data)
    while offset and offset not in seen and len(seen) <= limit:
        try:
            _, following = _directory(data, offset)
        except (*_BEYOND_END, ImageFailure):
            break  # `check_directory` has checked the first page, and no other is decoded
        seen.add(offset)
        offset = following
    return len(seen)


def to_eight_bits(image: ImageFile.ImageFile) -> Pixels:
    """Return the upper 8 bits of 9 to 16-bit gray, uint8 [H, W]; the values in the image do not matter."""
    tags = _tags(image)
    bits = tags.get(_BITS, (16,))[0]
    gray: Pixels = (np.asarray(image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    return np.invert(gray) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def _tags(image: ImageFile.ImageFile) -> TiffImagePlugin.ImageFileDirectory_v2:
    assert isinstance(image, TiffImagePlugin.TiffImageFile), "opened with no other format allowed"
    return image.tag_v2


def _strips(image: ImageFile.ImageFile) -> list[tuple[int, int]]:
    """Return offset and length of each strip or tile."""
    tags = _tags(image)
    for starts, lengths in _DATA_TAGS:
        if starts in tags and lengths in tags:
            return list(zip(tags[starts], tags[lengths], strict=False))
    return []


def _is_bigtiff(data: bytes) -> bool:
    return data[2:4] in (b"+\0", b"\0+")


def _byte_order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _first_directory(data: bytes) -> int:
    """Return the offset of the first directory. Raises one of _BEYOND_END."""
    form, offset = ("Q", 8) if _is_bigtiff(data) else ("I", 4)
    return int(struct.unpack_from(_byte_order(data) + form, data, offset)[0])


def _directory(data: bytes, offset: int) -> tuple[list[_Entry], int]:
    """Return the entries of the directory at `offset`, and the offset of the next one. Raises one of _BEYOND_END."""
    count, entry, following = ("Q", "HHQ8s", "Q") if _is_bigtiff(data) else ("H", "HHI4s", "I")
    order = _byte_order(data)
    (entries,) = struct.unpack_from(order + count, data, offset)
    if entries > _MAX_ENTRIES:
        raise ImageFailure(ErrorCode.CORRUPT, f"the TIFF announces {entries} tags")
    start = offset + struct.calcsize(order + count)
    end = start + entries * struct.calcsize(order + entry)
    (following,) = struct.unpack_from(order + following, data, end)
    return [_Entry(*values) for values in struct.iter_unpack(order + entry, data[start:end])], following


def _read_integer(data: bytes, entry: _Entry) -> int:
    form = _INTEGERS.get(entry.kind, "")
    if entry.values != 1 or not form or struct.calcsize(form) > len(entry.field):
        raise ImageFailure(ErrorCode.CORRUPT, f"tag {entry.tag} of the TIFF is no whole number")
    return int(struct.unpack_from(_byte_order(data) + form, entry.field)[0])

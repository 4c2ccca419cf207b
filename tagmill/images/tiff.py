"""TIFF: what Pillow does not look after. Whether its data is all there, unharmed and no bomb; pages; 16-bit gray."""

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
#: offsets and lengths of strips, and of tiles
_PLACES = ((273, 279), (324, 325))
_WHITE_IS_ZERO = 0
_DEFLATE = frozenset({8, 32946})
#: bytes of a pixel at most: four samples of 16 bits
_PIXEL = 8
_STEP = 1 << 20
#: compressed bytes that are handed to zlib at once: it copies what it leaves over
_PIECE = 1 << 16
#: numbers of a tag: more than the offsets of the largest picture's tiles of 16x16. Pillow makes objects out of them.
_MOST_NUMBERS = 500_000
#: entries of a directory: no tag stands in it twice
_MOST_ENTRIES = 1 << 16
#: kinds whose values stay bytes, however many: BYTE, ASCII, UNDEFINED
_BYTES = frozenset({1, 2, 7})
#: kinds that a tile's side may be of: SHORT, LONG, and LONG8 of a BigTIFF
_WHOLE = {3: "H", 4: "I", 16: "Q"}
#: Pixels of a tile that any image may have. Writers take one size for all images: 256x256, 512x512, seldom more.
_USUAL_TILE = 2048 * 2048
#: how many times as many pixels as its image a larger tile may have: sides rounded up to powers of two
_ROUNDED_UP = 4
#: what `struct` raises for places behind the end of the file
_OUTSIDE = (struct.error, OverflowError)


class _Entry(NamedTuple):
    """One tag as it stands in a directory. The field holds its values, or where they are if they do not fit."""

    tag: int
    kind: int
    values: int
    field: bytes


def check_directory(data: bytes) -> None:
    """Raise ImageFailure where the list of tags ends early, or names more values than any image needs."""
    try:
        entries, _ = _directory(data, _first(data))
    except _OUTSIDE as error:
        raise ImageFailure(ErrorCode.TRUNCATED, "the TIFF ends before its list of tags") from error
    for entry in entries:
        stays_bytes = entry.kind in _BYTES and entry.tag not in chain(*_PLACES)
        if entry.values > _MOST_NUMBERS and not stays_bytes:
            raise ImageFailure(ErrorCode.CORRUPT, f"tag {entry.tag} of the TIFF has {entry.values} values")


def check_tiles(data: bytes, width: int, height: int, limits: DecodeLimits) -> None:
    """Raise ImageFailure for tiles far larger than the image: libtiff makes room for a whole one.

    Strips need no such check: libtiff and Pillow end the first at the picture's last row.
    """
    sides = {_TILE_WIDTH: 0, _TILE_LENGTH: 0}
    # From the file's bytes: of a tag that stands there twice, with an odd type, Pillow and libtiff take different ones.
    for entry in _directory(data, _first(data))[0]:
        if entry.tag in sides:
            sides[entry.tag] = max(sides[entry.tag], _side(data, entry))
    wide, long = sides.values()
    if wide * long > min(limits.max_pixels, max(_USUAL_TILE, _ROUNDED_UP * width * height)):
        detail = f"tiles of {wide}x{long} pixels for an image of {width}x{height}"
        raise ImageFailure(ErrorCode.TOO_MANY_PIXELS, detail)


def check_data(image: ImageFile.ImageFile, data: bytes) -> None:
    """Hold deflated strips against the checksums at their ends, which libtiff does not read that far."""
    tags = _tags(image)
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    left = image.width * image.height * _PIXEL + _STEP
    for start, length in _strips(image):
        inflate, place, end = zlib.decompressobj(), start, start + length
        while not inflate.eof and left > 0:
            packed = inflate.unconsumed_tail
            if not packed:
                packed = data[place : min(place + _PIECE, end)]
                place += len(packed)
            try:
                plain = inflate.decompress(packed, _STEP)
            except zlib.error as error:
                raise ImageFailure(ErrorCode.CORRUPT, f"a strip of the TIFF: {error}") from error
            left -= len(plain)
            if not packed and not plain and not inflate.eof:
                raise ImageFailure(ErrorCode.TRUNCATED, "a strip of the TIFF ends early")


def ends_early(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Return whether pixels should stand behind the end of the file."""
    return any(start + length > len(data) for start, length in _strips(image))


def count_pages(data: bytes, most: int) -> int:
    """Return the number of pages, counted no further than one over `most`; what they hold is not read."""
    seen: set[int] = set()
    place = _first(data)
    while place and place not in seen and len(seen) <= most:
        try:
            _, following = _directory(data, place)
        except (*_OUTSIDE, ImageFailure):
            break  # the first page is whole, and the only one that is read
        seen.add(place)
        place = following
    return len(seen)


def eight_bits(image: ImageFile.ImageFile) -> Pixels:
    """Return uint8 [H, W] of 9 to 16-bit gray: its upper bits, whatever values happen to be in it."""
    tags = _tags(image)
    bits = tags.get(_BITS, (16,))[0]
    gray: Pixels = (np.asarray(image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    return np.invert(gray) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def _tags(image: ImageFile.ImageFile) -> TiffImagePlugin.ImageFileDirectory_v2:
    assert isinstance(image, TiffImagePlugin.TiffImageFile), "opened as TIFF alone"
    return image.tag_v2


def _strips(image: ImageFile.ImageFile) -> list[tuple[int, int]]:
    tags = _tags(image)
    for starts, lengths in _PLACES:
        if starts in tags and lengths in tags:
            return list(zip(tags[starts], tags[lengths], strict=False))
    return []


def _is_big(data: bytes) -> bool:
    return data[2:4] in (b"+\0", b"\0+")


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _first(data: bytes) -> int:
    """Return where the first directory stands. Raises one of _OUTSIDE."""
    form, place = ("Q", 8) if _is_big(data) else ("I", 4)
    return int(struct.unpack_from(_order(data) + form, data, place)[0])


def _directory(data: bytes, place: int) -> tuple[list[_Entry], int]:
    """Return the tags of the directory at `place`, and where the next one stands. Raises one of _OUTSIDE."""
    count, entry, following = ("Q", "HHQ8s", "Q") if _is_big(data) else ("H", "HHI4s", "I")
    order = _order(data)
    (entries,) = struct.unpack_from(order + count, data, place)
    if entries > _MOST_ENTRIES:
        raise ImageFailure(ErrorCode.CORRUPT, f"the TIFF announces {entries} tags")
    start = place + struct.calcsize(order + count)
    end = start + entries * struct.calcsize(order + entry)
    (following,) = struct.unpack_from(order + following, data, end)
    return [_Entry(*values) for values in struct.iter_unpack(order + entry, data[start:end])], following


def _side(data: bytes, entry: _Entry) -> int:
    form = _WHOLE.get(entry.kind, "")
    if entry.values != 1 or not form or struct.calcsize(form) > len(entry.field):
        raise ImageFailure(ErrorCode.CORRUPT, f"tag {entry.tag} of the TIFF is no whole number")
    return int(struct.unpack_from(_order(data) + form, entry.field)[0])

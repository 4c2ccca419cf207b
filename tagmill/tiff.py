"""TIFF: what Pillow does not look after. Whether its data is all there and unharmed, how many pages, 16-bit grey."""

import struct
import zlib

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from tagmill.outcome import ErrorCode, ImageFailure
from tagmill.picture import Pixels

_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
#: offsets and lengths of strips, and of tiles
_PLACES = ((273, 279), (324, 325))
_WHITE_IS_ZERO = 0
_DEFLATE = frozenset({8, 32946})
#: bytes of a pixel at most: four samples of 16 bits
_PIXEL = 8
_STEP = 1 << 20


def check_data(image: ImageFile.ImageFile, data: bytes) -> None:
    """Hold deflated strips against the checksums at their ends, which libtiff does not read that far."""
    tags = _tags(image)
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    left = image.width * image.height * _PIXEL + _STEP
    for start, length in _strips(image):
        inflate, packed = zlib.decompressobj(), data[start : start + length]
        while not inflate.eof and left > 0:
            try:
                plain = inflate.decompress(packed, _STEP)
            except zlib.error as error:
                raise ImageFailure(ErrorCode.CORRUPT, f"a strip of the TIFF: {error}") from error
            packed = inflate.unconsumed_tail
            left -= len(plain)
            if not packed and not plain and not inflate.eof:
                raise ImageFailure(ErrorCode.TRUNCATED, "a strip of the TIFF ends early")


def ends_early(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Return whether pixels should stand behind the end of the file."""
    return any(start + length > len(data) for start, length in _strips(image))


def lacks_directory(data: bytes) -> bool:
    """Return whether the list of tags should stand behind the end of the file."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        (start,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
        (entries,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)
    except struct.error:
        return True
    return bool(start + (16 + 20 * entries if big else 6 + 12 * entries) > len(data))


def count_pages(image: ImageFile.ImageFile, most: int) -> int:
    """Return the number of pages, counted no further than one over `most`."""
    pages = 1
    try:
        while pages <= most:
            image.seek(pages)
            pages += 1
    except EOFError:
        pass
    image.seek(0)
    return pages


def eight_bits(image: ImageFile.ImageFile) -> Pixels:
    """Return uint8 [H, W] of 9 to 16-bit grey: its upper bits, whatever values happen to be in it."""
    tags = _tags(image)
    bits = tags.get(_BITS, (16,))[0]
    grey: Pixels = (np.asarray(image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    return np.invert(grey) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _tags(image: ImageFile.ImageFile) -> TiffImagePlugin.ImageFileDirectory_v2:
    assert isinstance(image, TiffImagePlugin.TiffImageFile), "opened as TIFF alone"
    return image.tag_v2


def _strips(image: ImageFile.ImageFile) -> list[tuple[int, int]]:
    tags = _tags(image)
    for starts, lengths in _PLACES:
        if starts in tags and lengths in tags:
            return list(zip(tags[starts], tags[lengths], strict=False))
    return []

"""TIFF: decode the first page. Pillow (libtiff) unpacks the bytes; what they mean is decided here."""

# Not tifffile 2026.3.3: it needs imagecodecs (26 MB wheel, 80 MB installed) for LZW, JPEG, CCITT and 12 bits, takes
# 772 MiB and 2.4 s for a 16x16 image in a 16384x16384 tile, accepts a truncated JPEG strip, and returns CMYK as stored.

import io
import struct
import zlib

from PIL import Image

from tagmill.images.formats.still import Still
from tagmill.images.formats.tiff.directory import Directory, count_pages
from tagmill.images.formats.tiff.layout import DEFLATE, FAX, JPEG, NONE, Layout, Photometric, read_layout
from tagmill.images.formats.tiff.samples import to_image
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

_BYTE, _SHORT, _LONG = 1, 3, 4
_FORMS = {_BYTE: "B", _SHORT: "H", _LONG: "I"}
#: most bytes that zlib inflates in one call
_OUTPUT_CHUNK = 1 << 20
#: compressed bytes passed to zlib in one call: it copies what it does not consume
_INPUT_CHUNK = 1 << 16
#: each byte with its lowest bit first
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
#: tags that JPEG and fax decoders need, with the type in which they are written
_DECODER_TAGS = {292: _LONG, 293: _LONG, 530: _SHORT}
_JPEG_TABLES = 347
_PROFILE = 34675


def read_tiff(data: bytes, limits: DecodeLimits) -> Still:
    """Decode the first page. Raises ImageFailure."""
    directory = Directory(data)
    limits.check_frames(count_pages(data, limits.max_frames))
    layout = read_layout(directory, limits)
    if layout.compression in DEFLATE:
        _check_deflated(data, layout)
    if layout.compression == NONE and len(layout.offsets) > 1:
        _check_raw(layout)
    number = len(layout.offsets) // layout.planes
    planes = [_unpack(directory, layout, plane * number, number) for plane in range(layout.planes)]
    image, alpha = to_image(planes, layout, directory)
    return Still(image, directory.metadata(_PROFILE) or None, directory.orientation(), alpha)


def _unpack(directory: Directory, layout: Layout, first: int, number: int) -> Image.Image:
    """Return the bytes of one plane as gray pixels, one for each byte of a row; for JPEG and fax, its pixels."""
    file = _plane_file(directory, layout, first, number)
    try:
        with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError) as error:
        ends_early = any(
            start + length > len(directory.data) for start, length in zip(layout.offsets, layout.lengths, strict=True)
        )
        early = ends_early or "truncated" in str(error)
        raise ImageFailure(ErrorCode.TRUNCATED if early else ErrorCode.CORRUPT, f"the TIFF: {error}") from error


def _plane_file(directory: Directory, layout: Layout, first: int, number: int) -> bytes:
    """Return the file with another directory, which describes one plane and holds no other tag.

    Pillow and libtiff know some layouts and misread others. They read this one: 8-bit gray, a pixel for each byte.
    """
    of_bytes = layout.compression not in FAX and layout.compression != JPEG
    # The bytes between two samples of a pixel are those between two pixels, so a tile is as many times wider.
    pixel_bits = layout.bits * layout.samples // layout.planes
    gray = layout.photometric <= Photometric.BLACK_IS_ZERO
    samples = 1 if of_bytes or gray else layout.samples
    tags: dict[int, tuple[int, list[int]]] = {
        256: (_LONG, [layout.row_bytes if of_bytes else layout.width]),
        257: (_LONG, [layout.height]),
        258: (_SHORT, [8 if of_bytes else layout.bits] * samples),
        259: (_SHORT, [layout.compression]),
        262: (_SHORT, [Photometric.BLACK_IS_ZERO if of_bytes or gray else layout.photometric]),
        266: (_SHORT, [2 if layout.reversed_bits else 1]),
        277: (_SHORT, [samples]),
    }
    offsets, lengths = (324, 325) if layout.tile else (273, 279)
    tags[offsets] = (_LONG, list(layout.offsets[first : first + number]))
    tags[lengths] = (_LONG, list(layout.lengths[first : first + number]))
    if layout.tile:
        wide, long = layout.tile
        tags[322] = (_LONG, [wide * pixel_bits // 8 if of_bytes else wide])
        tags[323] = (_LONG, [long])
    else:
        tags[278] = (_LONG, [layout.rows_per_strip])
    if not of_bytes:
        tags |= {tag: (kind, list(directory.numbers(tag))) for tag, kind in _DECODER_TAGS.items() if tag in directory}
        if tables := directory.bytes_of(_JPEG_TABLES):
            tags[_JPEG_TABLES] = (7, list(tables))
    return _with_directory(directory.data, tags)


def _with_directory(data: bytes, tags: dict[int, tuple[int, list[int]]]) -> bytes:
    """Return the file as a little-endian TIFF whose only directory, at its end, holds these tags."""
    values, entries, place = b"", b"", len(data) + len(data) % 2
    for tag, (kind, numbers) in sorted(tags.items()):
        try:
            packed = struct.pack(f"<{len(numbers)}{_FORMS.get(kind, 'B')}", *numbers)
        except struct.error as error:  # an offset of a BigTIFF, beyond the end of any file that is read
            raise ImageFailure(ErrorCode.TRUNCATED, f"the TIFF ends before what its tag {tag} names") from error
        entries += struct.pack("<HHI", tag, kind, len(numbers))
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", place + len(values))
            values += packed + bytes(len(packed) % 2)
    head = b"II*\0" + struct.pack("<I", place + len(values))
    end = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"".join([head, memoryview(data)[8:], bytes(len(data) % 2), values, end])


def _check_raw(layout: Layout) -> None:
    """Raise ImageFailure for a strip or tile that is shorter than its rows: what follows it is read for its end.

    Of a single strip the length is not checked, as in libtiff: writers put anything there.
    """
    number = len(layout.offsets) // layout.planes
    for place, length in enumerate(layout.lengths):
        if layout.tile:
            pixel_bits = layout.bits * layout.samples // layout.planes
            needed = layout.tile[0] * pixel_bits // 8 * layout.tile[1]
        else:
            rows = min(layout.rows_per_strip, layout.height - place % number * layout.rows_per_strip)
            needed = layout.row_bytes * rows
        if length < needed:
            raise ImageFailure(ErrorCode.CORRUPT, f"a strip of the TIFF has {length} of {needed} bytes")


def _check_deflated(data: bytes, layout: Layout) -> None:
    """Check the checksums at the ends of deflated strips; libtiff does not read that far. Raises ImageFailure."""
    left = layout.row_bytes * layout.height * layout.planes + _OUTPUT_CHUNK
    if layout.tile:
        left += 8 * layout.samples * layout.tile[0] * layout.tile[1] * len(layout.offsets)
    for start, length in zip(layout.offsets, layout.lengths, strict=True):
        inflate, offset, end = zlib.decompressobj(), start, start + length
        while not inflate.eof and left > 0:
            packed = inflate.unconsumed_tail
            if not packed:
                packed = data[offset : min(offset + _INPUT_CHUNK, end)]
                offset += len(packed)
                packed = packed.translate(_REVERSED) if layout.reversed_bits else packed
            try:
                plain = inflate.decompress(packed, _OUTPUT_CHUNK)
            except zlib.error as error:
                raise ImageFailure(ErrorCode.CORRUPT, f"a strip of the TIFF: {error}") from error
            left -= len(plain)
            if not packed and not plain and not inflate.eof:
                raise ImageFailure(ErrorCode.TRUNCATED, "a strip of the TIFF ends early")

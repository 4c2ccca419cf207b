"""Small TIFF files that would need much memory are refused; harmless files that look similar are decoded."""

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import TiffTag as Tag
from support.image_fixtures import encoded, tiff_file

from tagmill.images.decode import decode
from tagmill.images.formats.tiff.directory import count_pages
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

BYTE, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, LONG8, SLONG8 = 1, 3, 4, 5, 6, 7, 16, 17
UNKNOWN = 99
RAW, LZW, DEFLATE = 1, 5, 8


def image_tags(size: tuple[int, int], compression: int, *more: Tag) -> list[Tag]:
    """Return the tags of an 8-bit RGB image and `more` tags, sorted."""
    first = [(256, LONG, [size[0]]), (257, LONG, [size[1]]), (258, SHORT, [8, 8, 8]), (259, SHORT, [compression])]
    return sorted([*first, (262, SHORT, [2]), (277, SHORT, [3]), *more], key=lambda tag: tag[0])


def tiled(size: tuple[int, int], tile: tuple[int, int], kind: int = LONG, compression: int = DEFLATE) -> bytes:
    """Return an image in the upper left corner of one red tile."""
    red = bytes((255, 0, 0)) * (tile[0] * tile[1])
    data = zlib.compress(red, 1) if compression == DEFLATE else red
    sides = [(322, kind, [tile[0]]), (323, kind, [tile[1]])]
    tags = image_tags(size, compression, *sides, (324, LONG, [16]), (325, LONG, [len(data)]))
    return tiff_file(tags, data, big=kind == LONG8)


def announced(*tiles: Tag, order: str = "<", big: bool = False) -> bytes:
    """Return a 16x16 file with the given tile tags and no pixel data."""
    tags = image_tags((16, 16), LZW, *tiles, (324, LONG, [16]), (325, LONG, [1000]))
    return tiff_file(tags, bytes(1000), order, big)


def failure(data: bytes, limits: DecodeLimits | None = None) -> ErrorCode:
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256, limits)
    return caught.value.code


def is_red(data: bytes, size: tuple[int, int]) -> bool:
    found = decode(data, 256)
    return (found.width, found.height) == size and bool((found.rgb == (255, 0, 0)).all())


@pytest.mark.parametrize("side", [16, 128, 256, 512, 1024, 2048])
@pytest.mark.parametrize("compression", [RAW, DEFLATE])
def test_a_small_image_in_one_tile_of_a_usual_size_is_decoded(side: int, compression: int) -> None:
    assert is_red(tiled((16, 9), (side, side), compression=compression), (16, 9))


@pytest.mark.parametrize("kind", [SHORT, LONG, LONG8])
def test_a_tile_size_may_have_any_integer_type(kind: int) -> None:
    assert is_red(tiled((20, 30), (256, 128), kind), (20, 30))


def test_a_larger_image_may_have_one_tile_rounded_up_to_powers_of_two() -> None:
    assert is_red(tiled((1300, 1030), (2048, 2064)), (1300, 1030))


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
@pytest.mark.parametrize("tile", [(16384, 16384), (4096, 4096), (2**20, 16), (16, 2**20), (2**32 - 1, 2**32 - 1)])
def test_a_tile_far_larger_than_its_image_is_refused(tile: tuple[int, int], order: str, big: bool) -> None:
    data = announced((322, LONG, [tile[0]]), (323, LONG, [tile[1]]), order=order, big=big)
    assert failure(data) == ErrorCode.TOO_MANY_PIXELS


def test_a_tile_may_not_have_more_pixels_than_an_image() -> None:
    data = tiled((16, 16), (512, 512))
    assert failure(data, DecodeLimits(max_pixels=512 * 512 - 1)) == ErrorCode.TOO_MANY_PIXELS
    assert decode(data, 256, DecodeLimits(max_pixels=512 * 512)).width == 16


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_a_tile_side_that_occurs_with_two_values_is_refused(places: tuple[int, int]) -> None:
    wide, long = ([(tag, LONG, [(16384, 16)[place]]) for place in places] for tag in (322, 323))
    assert failure(announced(*wide, *long)) == ErrorCode.CORRUPT


@pytest.mark.parametrize("kind", [SLONG8, SBYTE, RATIONAL])
def test_a_tile_side_of_a_type_that_only_libtiff_reads_is_refused(kind: int) -> None:
    # Pillow skips the first entry, whose type it does not know, and reads 16x16; libtiff reads 4096x4096.
    pixels = zlib.compress(bytes(3 * 4096 * 4096), 1)
    large, small = 4096 if kind != SBYTE else 127, 16
    sides = [(322, kind, [large]), (322, LONG, [small]), (323, kind, [large]), (323, LONG, [small])]
    tags = image_tags((16, 16), DEFLATE, *sides, (324, LONG, [16]), (325, LONG, [len(pixels)]))
    assert failure(tiff_file(tags, pixels)) == ErrorCode.CORRUPT


@pytest.mark.parametrize("rows", [2**32 - 1, 2**24, 512, 9])
@pytest.mark.parametrize("compression", [RAW, DEFLATE])
def test_a_strip_with_more_rows_than_the_image_is_decoded(rows: int, compression: int) -> None:
    red = bytes((255, 0, 0)) * (16 * 9)
    data = zlib.compress(red) if compression == DEFLATE else red
    strip = [(278, LONG, [rows]), (273, LONG, [16]), (279, LONG, [len(data)])]
    assert is_red(tiff_file(image_tags((16, 9), compression, *strip), data), (16, 9))


@pytest.mark.parametrize(("tag", "kind"), [(273, BYTE), (273, SHORT), (279, LONG)])
def test_a_tag_with_more_values_than_any_image_needs_is_refused(tag: int, kind: int) -> None:
    strip = {273: (273, LONG, [16]), 278: (278, LONG, [1]), 279: (279, LONG, [48])}
    strip[tag] = (tag, kind, [16] * 500_001)
    assert failure(tiff_file(image_tags((16, 16), RAW, *strip.values()), bytes(48))) == ErrorCode.CORRUPT


@pytest.mark.parametrize(
    "tag",
    [
        (700, BYTE, [32] * 500_001),
        (282, RATIONAL, [1] * 500_001),
        (320, SBYTE, [1] * 500_001),
        (270, UNKNOWN, [0]),
        (274, SHORT, [77]),
        (274, RATIONAL, [6]),
        (305, LONG, [2**32 - 1]),
        (529, SHORT, [0] * 9),
        (33432, UNDEFINED, [255] * 40),
        (34665, LONG, [2**32 - 1]),
        (34675, UNDEFINED, [255] * 4000),
        (34675, LONG, [7]),
        (34675, UNDEFINED, [7] * 500_001),
        (65535, LONG8, [2**64 - 1]),
    ],
    ids=range(14),
)
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", True)])
def test_a_tag_that_no_pixel_depends_on_may_hold_anything(tag: Tag, order: str, big: bool) -> None:
    red = bytes((255, 0, 0)) * (16 * 9)
    strip = [(278, LONG, [9]), (273, LONG, [16]), (279, LONG, [len(red)]), tag, tag]
    assert is_red(tiff_file(image_tags((16, 9), RAW, *strip), red, order, big), (16, 9))


def test_metadata_beyond_the_end_of_the_file_is_ignored() -> None:
    red = bytes((255, 0, 0)) * (16 * 9)
    far = [(tag, UNDEFINED, [1] * 9) for tag in (700, 33723, 34377, 34675, 37500)]
    data = tiff_file(image_tags((16, 9), RAW, (278, LONG, [9]), (273, LONG, [16]), (279, LONG, [len(red)]), *far), red)
    for tag, _, _ in far:
        place = data.index(struct.pack("<HHI", tag, UNDEFINED, 9))
        data = data[: place + 8] + b"\xff\xff\xff\xff" + data[place + 12 :]
    assert is_red(data, (16, 9))


def test_a_single_strip_without_a_length_reaches_to_the_end() -> None:
    red = bytes((255, 0, 0)) * (16 * 9)
    for compression, data in ((RAW, red), (DEFLATE, zlib.compress(red))):
        assert is_red(tiff_file(image_tags((16, 9), compression, (278, LONG, [9]), (273, LONG, [16])), data), (16, 9))


def test_a_directory_with_more_entries_than_there_are_tags_is_refused() -> None:
    head = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16)
    assert failure(head + struct.pack("<Q", 70_000) + bytes(20 * 70_000 + 8)) == ErrorCode.CORRUPT
    assert failure(head + struct.pack("<Q", 2**63) + bytes(100)) == ErrorCode.CORRUPT


@pytest.mark.parametrize("start", [10**6, 2**63, 2**64 - 1])
def test_a_directory_beyond_the_end_is_truncated(start: int) -> None:
    assert failure(b"II" + struct.pack("<HHHQ", 43, 8, 0, start) + bytes(100)) == ErrorCode.TRUNCATED


def test_many_strips_that_share_their_bytes_are_not_copied_one_by_one() -> None:
    data = zlib.compress(b"") + bytes(8_000_000)
    strips = [(278, LONG, [1]), (273, LONG, [16] * 5000), (279, LONG, [len(data)] * 5000)]
    file = tiff_file(image_tags((16, 16), DEFLATE, *strips), data)
    started = time.thread_time()
    assert failure(file) == ErrorCode.CORRUPT
    assert time.thread_time() - started < 3


def test_later_pages_are_counted_and_not_decoded() -> None:
    first, later = Image.new("RGB", (16, 9), (255, 0, 0)), Image.new("RGB", (16, 9))
    data = bytearray(encoded(first, "TIFF", save_all=True, append_images=[later, later]))
    assert count_pages(bytes(data), 10) == 3
    assert count_pages(bytes(data), 1) == 2
    (place,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, place)
    link = place + 2 + 12 * entries
    for bad_offset in (place, len(data), 2**32 - 1):
        struct.pack_into("<I", data, link, bad_offset)
        assert count_pages(bytes(data), 10) == 1
        assert is_red(bytes(data), (16, 9))


def test_a_later_page_with_too_many_strips_costs_no_time() -> None:
    red = bytes((255, 0, 0)) * (16 * 9)
    strip = [(278, LONG, [9]), (273, LONG, [16]), (279, LONG, [len(red)])]
    one = tiff_file(image_tags((16, 9), RAW, *strip), red)
    numbers = 2_000_000
    strips = struct.pack("<HHII", 273, SHORT, numbers, len(one))
    rest = b"".join(struct.pack("<HHII", tag, LONG, 1, value) for tag, value in ((256, 16), (257, 9), (278, 1)))
    directory = struct.pack("<H", 4) + rest[:24] + strips + rest[24:] + bytes(4)
    data = one[:-4] + struct.pack("<I", len(one) + 2 * numbers) + bytes(2 * numbers) + directory
    started = time.thread_time()
    assert is_red(data, (16, 9))
    assert time.thread_time() - started < 3
    assert np.array_equal(decode(data, 256).rgb, decode(one, 256).rgb)


def test_a_raw_strip_that_is_shorter_than_its_rows_is_refused() -> None:
    red = bytes((255, 0, 0)) * (16 * 9)
    whole, rest = [16, 16 + 16 * 3 * 5], [16 * 3 * 5, 16 * 3 * 4]
    for lengths, code in ((rest, None), ([16 * 3 * 4, rest[1]], ErrorCode.CORRUPT), ([rest[0], 1], ErrorCode.CORRUPT)):
        data = tiff_file(image_tags((16, 9), RAW, (278, LONG, [5]), (273, LONG, whole), (279, LONG, lengths)), red)
        assert failure(data) == code if code else is_red(data, (16, 9))

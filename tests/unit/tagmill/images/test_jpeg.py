"""JPEG: a file with a harmless libjpeg warning is decoded, and a damaged file fails."""

import io
import re
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import encoded
from support.jpeg_writer import flat_blocks_jpeg

from tagmill.images.decode import decode
from tagmill.images.exif import orientation
from tagmill.images.formats.jpeg import read_header
from tagmill.images.formats.jpeg_scans import MAX_SCANS
from tagmill.outcomes import ErrorCode, ImageFailure

END = b"\xff\xd9"


def photo(**options: object) -> bytes:
    """Return a JPEG with detail everywhere, so that each part of its data matters."""
    random = np.random.default_rng(3)
    coarse = Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    return encoded(coarse.resize((160, 160), Image.Resampling.BICUBIC), "JPEG", **options)


PHOTO = photo()
WHOLE = decode(PHOTO, 256).rgb
SCAN = read_header(PHOTO).scan


def failure(data: bytes) -> ErrorCode:
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256)
    return caught.value.code


@pytest.mark.parametrize(
    "data",
    [
        PHOTO + b"\0" * 1000,
        PHOTO + PHOTO,
        PHOTO[:-2],
        PHOTO[:-1],
        PHOTO[:-2] + b"\0" * 7 + END,
        PHOTO[:-2] + b"\0" * 7 + END + PHOTO,
        PHOTO[:20] + b"stray\0" + PHOTO[20:],
        PHOTO[:20] + b"\xff\xff\xff" + PHOTO[20:],
        PHOTO.replace(b"JFIF\0\x01", b"JFIF\0\x07"),
        PHOTO[: SCAN - 3] + b"\x00\x00\x00" + PHOTO[SCAN:],
    ],
    ids=[
        "zeros after the end",
        "a second image after the end",
        "no end marker",
        "half an end marker",
        "zeros before the end",
        "zeros before the end and a second image after it",
        "stray bytes between segments",
        "fill bytes",
        "unknown JFIF version",
        "scan parameters of another coding process",
    ],
)
def test_harmless_defects_do_not_change_the_pixels(data: bytes) -> None:
    assert (decode(data, 256).rgb == WHOLE).all()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (PHOTO[: len(PHOTO) // 2], ErrorCode.TRUNCATED),
        (PHOTO[: len(PHOTO) // 2] + END, ErrorCode.CORRUPT),
        (PHOTO[: len(PHOTO) * 3 // 4] + bytes(len(PHOTO) // 4), ErrorCode.TRUNCATED),
        (PHOTO[: len(PHOTO) // 2] + b"\xff\xd5" + PHOTO[len(PHOTO) // 2 :], ErrorCode.CORRUPT),
        (PHOTO[: len(PHOTO) // 2] + PHOTO[len(PHOTO) // 2 + 400 :], ErrorCode.CORRUPT),
        (PHOTO[:-2] + b"more data" + END, ErrorCode.CORRUPT),
        (photo(progressive=True)[:-2], ErrorCode.TRUNCATED),
        (PHOTO[:SCAN], ErrorCode.TRUNCATED),
        (PHOTO[:100], ErrorCode.TRUNCATED),
        (PHOTO[:3], ErrorCode.TRUNCATED),
        (PHOTO[:2] + END, ErrorCode.CORRUPT),
        (PHOTO[:20] + END, ErrorCode.CORRUPT),
        (PHOTO[:2] + b"\xff\xe1\0\0" + PHOTO[2:], ErrorCode.CORRUPT),
        (PHOTO[:2] + b"\xff\xe5\0\2" * 20_000 + PHOTO[2:], ErrorCode.CORRUPT),
    ],
    ids=[
        "cut",
        "cut, with an end marker",
        "padded with zeros",
        "restart marker",
        "bytes missing",
        "data before the end",
        "progressive without end marker",
        "no data",
        "cut in the header",
        "cut after three bytes",
        "start and end only",
        "no frame",
        "segment with length zero",
        "thousands of segments",
    ],
)
def test_damage_fails(data: bytes, code: ErrorCode) -> None:
    assert failure(data) == code


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF, 0xF7])
def test_a_coding_process_that_is_not_read_is_an_unsupported_format(kind: int) -> None:
    assert failure(PHOTO.replace(b"\xff\xc0", bytes([0xFF, kind]), 1)) == ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (4, 12, ErrorCode.UNSUPPORTED_FORMAT),
        (4, 0, ErrorCode.CORRUPT),
        (4, 77, ErrorCode.CORRUPT),
        (9, 2, ErrorCode.UNSUPPORTED_FORMAT),
        (9, 5, ErrorCode.UNSUPPORTED_FORMAT),
        (9, 0, ErrorCode.CORRUPT),
    ],
)
def test_bits_and_channels_that_are_not_read(place: int, value: int, code: ErrorCode) -> None:
    place += PHOTO.index(b"\xff\xc0")
    assert failure(PHOTO[:place] + bytes([value]) + PHOTO[place + 1 :]) == code


def test_a_height_behind_the_first_scan_is_an_unsupported_format() -> None:
    place = PHOTO.index(b"\xff\xc0") + 5
    lines = b"\xff\xdc\0\4" + PHOTO[place : place + 2]
    data = PHOTO[:place] + b"\0\0" + PHOTO[place + 2 : -2] + lines + END
    assert failure(data) == ErrorCode.UNSUPPORTED_FORMAT


def test_an_image_with_height_zero_fails() -> None:
    place = PHOTO.index(b"\xff\xc0") + 5
    assert failure(PHOTO[:place] + b"\0\0" + PHOTO[place + 2 :]) == ErrorCode.CORRUPT


def test_a_progressive_image_with_too_many_scans_is_refused_before_decoding() -> None:
    data = photo(progressive=True)
    assert decode(data, 256).format == "JPEG"
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert failure(data[:-2] + scan * MAX_SCANS + END) == ErrorCode.TOO_MANY_FRAMES


@pytest.mark.parametrize("options", [{"progressive": True}, {}], ids=["progressive", "baseline"])
def test_scans_are_counted_up_to_the_end_marker_only(options: dict[str, object]) -> None:
    data = photo(**options)
    film = np.random.default_rng(8).bytes(20_000) + b"\xff\xda" * 500
    for trailer in (film, data * 20, END + film):
        assert (decode(data + trailer, 256).rgb == decode(data, 256).rgb).all()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    "junk",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xE0, b"JFXX\0\x77thumbnail"),
        segment(0xE1, b"Exif\0\0" + b"\xff" * 60_000),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken"),
        segment(0xE2, b"ICC_PROFILE\0\x03\x05damage"),
        segment(0xE2, b"ICC_PROFILE\0\0\0"),
        segment(0xE2, b"ICC_PROFILE\0") * 3,
        segment(0xE2, b"MPF\0" + b"\xff" * 80),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 900),
        segment(0xEE, b"Adobe"),
        segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07"),
        segment(0xEF, b"\xff\xd9\xff\xda" * 2000),
        segment(0xFE, b"") + segment(0xFE, b"\xff\xd8\xff" * 9),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 3}], ids=["scans", "restarts"])
def test_metadata_never_decides_whether_a_jpeg_is_read(junk: bytes, options: dict[str, object]) -> None:
    data = photo(**options)
    assert (decode(data[:20] + junk + data[20:], 256).rgb == decode(data, 256).rgb).all()


def padded(data: bytes, markers: bytes, padding: bytes) -> bytes:
    """Return a JPEG with `padding` before each of the markers that end coded data."""
    scan = read_header(data).scan
    return data[:scan] + re.sub(rb"(\xff[" + markers + rb"])", padding + rb"\1", data[scan:])


@pytest.mark.parametrize("zeros", [1, 9, 3000])
def test_zeros_before_a_marker_are_padding_wherever_coded_data_ends(zeros: int) -> None:
    restarts, scans = photo(restart_marker_blocks=3), photo(progressive=True)
    for data, markers in ((restarts, rb"\xd0-\xd7\xd9"), (restarts, rb"\xd3"), (scans, rb"\xc4\xda\xd9")):
        assert (decode(padded(data, markers, bytes(zeros)), 256).rgb == decode(data, 256).rgb).all()


def test_other_bytes_where_coded_data_ends_may_be_damage() -> None:
    restarts, scans = photo(restart_marker_blocks=3), photo(progressive=True)
    for data, markers in ((restarts, rb"\xd3"), (restarts, rb"\xd9"), (scans, rb"\xc4"), (scans, rb"\xd9")):
        assert failure(padded(data, markers, b"twelve bytes")) == ErrorCode.CORRUPT


def test_bytes_between_the_segments_of_two_scans_are_left_out() -> None:
    data = photo(progressive=True)
    place = data.index(b"\xff\xda", data.index(b"\xff\xc4", read_header(data).scan))
    for stray in (b"stray", b"\0\0", b"\xff\xff\xff"):
        assert (decode(data[:place] + stray + data[place:], 256).rgb == decode(data, 256).rgb).all()


def test_large_images_are_shrunk_by_eighths_during_decoding() -> None:
    large = Image.effect_noise((800, 640), 40).convert("RGB")
    for side, shape in ((80, (80, 100)), (81, (160, 200)), (240, (240, 300)), (256, (320, 400)), (641, (640, 800))):
        assert decode(encoded(large, "JPEG"), side).rgb.shape[:2] == shape


def test_padding_zeros_before_the_end_are_distinguished_from_coded_zeros() -> None:
    random = np.random.default_rng(4)
    files = (encoded(Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)), "JPEG") for _ in range(5000))
    data = next(file for file in files if file.endswith(b"\xff\0" + END))
    for zeros in (1, 2, 9):
        assert (decode(data[:-2] + b"\0" * zeros + END, 256).rgb == decode(data, 256).rgb).all()


def test_orientation_is_read_in_both_byte_orders_and_is_1_for_anything_else() -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0)
        exif = mark + struct.pack(f"{order}IH", 8, 1) + entry
        assert orientation(exif) == 6
        assert [orientation(exif[:length]) for length in range(len(exif) - 2)] == [1] * (len(exif) - 2)
    assert orientation(b"") == orientation(b"XX") == 1


#: sampling factors that TurboJPEG knows: 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1, 4:4:1, and the same with other numbers
KNOWN = [
    ((1, 1), (1, 1), (1, 1)),
    ((2, 1), (1, 1), (1, 1)),
    ((2, 2), (1, 1), (1, 1)),
    ((1, 2), (1, 1), (1, 1)),
    ((4, 1), (1, 1), (1, 1)),
    ((1, 4), (1, 1), (1, 1)),
    ((2, 2), (2, 1), (2, 1)),
    ((2, 2), (1, 2), (1, 2)),
    ((3, 1), (3, 1), (3, 1)),
]


@pytest.mark.parametrize("factors", [*KNOWN, ((1, 1),), ((2, 2),), ((4, 3),)])
def test_every_usual_subsampling_is_read_as_pillow_reads_it(factors: tuple[tuple[int, int], ...]) -> None:
    data = flat_blocks_jpeg(factors)
    read = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (decode(data, 256).rgb == read).all()


@pytest.mark.parametrize("chroma", [((1, 2), (1, 1)), ((2, 1), (1, 1)), ((3, 1), (1, 1)), ((2, 2), (1, 1))])
def test_rare_sampling_factors_are_an_unsupported_format(chroma: tuple[tuple[int, int], ...]) -> None:
    assert failure(flat_blocks_jpeg(((1, 1), *chroma))) == ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("transform", [None, 0, 1, 2, 5])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_color_transforms_are_those_of_libjpeg(mode: str, transform: int | None, progressive: bool) -> None:
    photo_ = Image.open(io.BytesIO(PHOTO)).convert(mode)
    data = encoded(photo_, "JPEG", quality=95, keep_rgb=True, progressive=progressive)
    start = data.index(b"Adobe") - 4
    adobe = b"" if transform is None else segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
    data = data[:start] + adobe + data[start + 16 :]
    read = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.abs(decode(data, 256).rgb.astype(int) - np.asarray(read)).max() <= 1


def test_the_second_picture_of_a_file_is_not_read() -> None:
    first, second = Image.open(io.BytesIO(PHOTO)), Image.new("RGB", (160, 160), "red")
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert np.abs(decode(data, 256).rgb.astype(int) - np.asarray(first)).mean() < 3


@pytest.mark.parametrize("options", [{"lossless": True}, {"bitspersample": 12}])
def test_what_another_encoder_writes_and_is_not_read(options: dict[str, object]) -> None:
    bits = options.get("bitspersample", 8)
    samples = np.full((16, 16), 100, dtype=np.uint16 if bits == 12 else np.uint8)
    assert failure(imagecodecs.jpeg8_encode(samples, **options)) == ErrorCode.UNSUPPORTED_FORMAT
    assert failure(imagecodecs.jpegls_encode(samples)) == ErrorCode.UNSUPPORTED_FORMAT

"""JPEG: a file with a harmless libjpeg warning is decoded, and a damaged file fails."""

import struct

import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import encoded

from tagmill.images.decode import decode
from tagmill.images.exif import orientation
from tagmill.images.jpeg import MAX_SCANS, read_header
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


@pytest.mark.parametrize("kind", [0xC3, 0xC9, 0xCA])
def test_an_unsupported_coding_process_is_refused_as_not_an_image(kind: int) -> None:
    assert failure(PHOTO.replace(b"\xff\xc0", bytes([0xFF, kind]), 1)) == ErrorCode.NOT_AN_IMAGE


def test_twelve_bits_are_refused_as_not_an_image() -> None:
    place = PHOTO.index(b"\xff\xc0") + 4
    assert failure(PHOTO[:place] + b"\x0c" + PHOTO[place + 1 :]) == ErrorCode.NOT_AN_IMAGE


def test_an_image_with_height_zero_fails() -> None:
    place = PHOTO.index(b"\xff\xc0") + 5
    assert failure(PHOTO[:place] + b"\0\0" + PHOTO[place + 2 :]) == ErrorCode.CORRUPT


def test_a_progressive_image_with_too_many_scans_is_refused_before_decoding() -> None:
    data = photo(progressive=True)
    assert decode(data, 256).format == "JPEG"
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert failure(data[:-2] + scan * MAX_SCANS + END) == ErrorCode.TOO_MANY_FRAMES


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

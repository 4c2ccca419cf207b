"""Every kind of PNG is decoded to the colors that the specification defines, whatever its metadata holds."""

import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import dark_gray_profile, encoded, swapped_profile
from support.png_writer import CHANNELS, KINDS, SIGNATURE, Samples, chunk, png

from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

HEIGHT, WIDTH = 13, 21
RANDOM = np.random.default_rng(12)
WHITE = (255, 255, 255)


def samples(color: int, depth: int) -> Samples:
    """Return samples [H, W, channels], few enough of each color that a transparent one occurs."""
    few = RANDOM.integers(0, 1 << depth, 5, dtype=np.uint16)
    drawn = RANDOM.integers(0, 1 << depth, (HEIGHT, WIDTH, CHANNELS[color]), dtype=np.uint16)
    return np.asarray(np.where(drawn % 3 == 0, few[drawn % 5], drawn))


def expected(values: Samples, color: int, depth: int, palette: Samples, clear: tuple[int, ...] = ()) -> np.ndarray:
    """Return the colors on white, [H, W, 3] in 0..255. `clear` is the transparent color, or the alphas of a palette."""
    level = values / ((1 << depth) - 1) * 255
    alpha = np.ones((HEIGHT, WIDTH, 1))
    if color == 3:
        alphas = np.ones(len(palette))
        alphas[: len(clear)] = np.array(clear) / 255
        rgb, alpha = palette[values[:, :, 0]].astype(float), alphas[values]
    else:
        rgb = np.broadcast_to(level[:, :, : 3 if color in {2, 6} else 1], (HEIGHT, WIDTH, 3))
        if color in {4, 6}:
            alpha = level[:, :, -1:] / 255
        elif clear:
            alpha = (values != clear).any(axis=2, keepdims=True).astype(float)
    return rgb * alpha + 255 * (1 - alpha)


def decoded(data: bytes) -> np.ndarray:
    return decode(data, 256).rgb.astype(int)


def failure(data: bytes) -> ErrorCode:
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256)
    return caught.value.code


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth"), KINDS)
def test_every_color_type_depth_and_transparency(color: int, depth: int, interlaced: bool) -> None:
    values = samples(color, depth)
    palette = RANDOM.integers(0, 256, (1 << min(depth, 8), 3), dtype=np.uint8)
    colors = [chunk(b"PLTE", palette.tobytes())]
    key = tuple(int(value) for value in values[4, 7])
    if color == 3:
        clears: list[tuple[int, ...]] = [(), (0,), (0, 128), tuple(range(len(palette)))]
        chunks = [bytes(clear) for clear in clears]
    else:
        clears, chunks = [(), key], [b"", struct.pack(f">{len(key)}H", *key)]
    for clear, body in zip(clears, chunks, strict=True):
        before = [*(colors if color in {2, 3, 6} else []), *([chunk(b"tRNS", body)] if body else [])]
        data = png(values, color, depth, interlaced=interlaced, before=before)
        wanted = expected(values, color, depth, palette, clear if color in {0, 2, 3} else ())
        assert np.abs(decoded(data) - wanted).max() < 2, (clear, body)
        if not body and color != 3:  # libpng, an independent reader
            read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert read is not None


def test_a_transparent_color_of_16_bits_is_compared_in_all_of_them() -> None:
    for color in (0, 2):
        values = np.full((8, 8, CHANNELS[color]), 0x1234, np.uint16)
        values[0, 0], values[0, 1] = 0x1235, 0x3412
        data = png(values, color, 16, before=[chunk(b"tRNS", struct.pack(">H", 0x1234) * CHANNELS[color])])
        rgb = decoded(data)
        assert rgb[0, 0].tolist() == [0x12] * 3
        assert rgb[0, 1].tolist() == [0x34] * 3
        assert (rgb[1:] == 255).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_bits_of_a_transparent_color_above_the_depth_are_ignored_as_in_libpng(depth: int) -> None:
    values = np.full((8, 8, 1), 1, np.uint8)
    data = png(values, 0, depth, before=[chunk(b"tRNS", struct.pack(">H", 0xFF00 | 1))])
    assert (decoded(data) == 255).all()


@pytest.mark.parametrize(
    ("color", "body"), [(0, b"\0"), (0, b"\0\0\0"), (2, b"\0\0"), (3, bytes(9)), (4, b"\0\0"), (6, bytes(6))]
)
def test_a_transparency_that_does_not_fit_the_color_type_is_ignored_as_in_libpng(color: int, body: bytes) -> None:
    values = np.zeros((8, 8, CHANNELS[color]), np.uint8)
    values[:, :, -1] = 255 if color in {4, 6} else 0
    before = [chunk(b"PLTE", bytes(6))] if color == 3 else []
    assert (decoded(png(values, color, 8, before=[*before, chunk(b"tRNS", body)])) == 0).all()


def test_indices_that_the_palette_lacks_are_black_as_in_libpng() -> None:
    values = np.array([[[0], [1], [2], [200]]], np.uint8)
    rgb = decoded(png(values, 3, 8, before=[chunk(b"PLTE", b"\xff\0\0\0\xff\0")]))
    assert rgb[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 0], [0, 0, 0]]


def test_transparency_and_palette_behind_the_pixels_are_not_read() -> None:
    values = np.zeros((8, 8, 1), np.uint8)
    assert (decoded(png(values, 0, 8, after=[chunk(b"tRNS", b"\0\0")])) == 0).all()
    assert failure(png(values, 3, 8, after=[chunk(b"PLTE", bytes(3))])) == ErrorCode.CORRUPT


PHOTO = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
#: text that unpacks to more than Pillow's limit
LARGE = zlib.compress(bytes(9 << 20))
#: an RGB profile of 2 MiB
PROFILE = zlib.compress(swapped_profile() + bytes(2 << 20))
METADATA = [
    chunk(b"tEXt", b"Comment\0" + b"x" * (2 << 20)),
    chunk(b"tEXt", b"\xff" * 3000),
    chunk(b"zTXt", b"Comment\0\0" + LARGE),
    chunk(b"zTXt", b"Comment\0\0damage"),
    chunk(b"zTXt", b"Comment\0\7"),
    chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
    chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<broken \xff"),
    chunk(b"iTXt", b""),
    chunk(b"iCCP", b""),
    chunk(b"iCCP", b"no end"),
    chunk(b"iCCP", b"profile\0\0damage"),
    chunk(b"iCCP", b"profile\0\0" + LARGE),
    chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"no profile")),
    chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
    chunk(b"eXIf", b"\xff" * 100_000),
    chunk(b"pHYs", b""),
    chunk(b"gAMA", b"\0"),
    chunk(b"cHRM", b"\xff" * 5),
    chunk(b"sRGB", b"\xff\xff"),
    chunk(b"tIME", b""),
    chunk(b"bKGD", b"\1"),
    chunk(b"sBIT", b"\xff"),
    chunk(b"hIST", b"\1"),
    chunk(b"acTL", b""),
    chunk(b"acTL", struct.pack(">II", 5, 0), checksum=1),
    chunk(b"fcTL", b"\xff" * 26),
    chunk(b"caBX", b"\xff" * 70_000),
    chunk(b"PLTE", b"\0" * 9),
    chunk(b"PLTE", b"\0" * 9, checksum=7),
    chunk(b"teXt", b"\1", checksum=9),
    chunk(b"iCCP", b"profile\0\0" + PROFILE, checksum=9),
    chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0", checksum=9),
]


@pytest.mark.parametrize("junk", METADATA, ids=range(len(METADATA)))
def test_metadata_never_decides_whether_a_png_is_read(junk: bytes) -> None:
    assert (decoded(png(PHOTO, 2, 8, before=[junk])) == PHOTO).all()
    assert (decoded(png(PHOTO, 2, 8, after=[junk])) == PHOTO).all()
    whole = png(PHOTO, 2, 8, after=[junk])
    assert (decoded(whole[: len(whole) - 14]) == PHOTO).all()


def test_a_png_whose_end_chunk_is_missing_is_read() -> None:
    assert (decoded(png(PHOTO, 2, 8)[:-12]) == PHOTO).all()
    assert (decoded(png(PHOTO, 2, 8)[:-5]) == PHOTO).all()


def test_a_large_profile_is_followed() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = 255
    data = png(red, 2, 8, before=[chunk(b"iCCP", b"profile\0\0" + PROFILE)])
    assert np.abs(decoded(data) - (0, 0, 255)).max() <= 3


def test_a_gray_profile_applies_beside_alpha() -> None:
    gray = np.full((8, 8, 2), (128, 255), np.uint8)
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(dark_gray_profile()))
    assert np.abs(decoded(png(gray, 4, 8, before=[profile])) - 71).max() <= 1


@pytest.mark.parametrize(
    ("color", "kind", "body"), [(3, b"PLTE", bytes(3)), (2, b"tRNS", bytes(6)), (3, b"tRNS", b"\0")]
)
def test_a_wrong_checksum_of_colors_or_transparency_fails(color: int, kind: bytes, body: bytes) -> None:
    before = [chunk(b"PLTE", bytes(3))] if color == 3 and kind != b"PLTE" else []
    values = np.zeros((8, 8, CHANNELS[color]), np.uint8)
    assert failure(png(values, color, 8, before=[*before, chunk(kind, body, checksum=1)])) == ErrorCode.CORRUPT


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (struct.pack(">IIBBBBB", 8, 8, 3, 0, 0, 0, 0), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBBB", 8, 8, 16, 3, 0, 0, 0), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBBB", 8, 8, 8, 5, 0, 0, 0), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBBB", 8, 8, 8, 2, 1, 0, 0), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 1, 0), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 2), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBB", 8, 8, 8, 2, 0, 0), ErrorCode.CORRUPT),
        (struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0), ErrorCode.CORRUPT),
    ],
)
def test_an_impossible_header_fails(header: bytes, code: ErrorCode) -> None:
    data = png(PHOTO, 2, 8)
    assert failure(SIGNATURE + chunk(b"IHDR", header) + data[33:]) == code


def test_an_unknown_chunk_that_is_critical_fails_and_one_that_is_not_does_not() -> None:
    assert failure(png(PHOTO, 2, 8, before=[chunk(b"XXXX", b"")])) == ErrorCode.CORRUPT
    assert (decoded(png(PHOTO, 2, 8, before=[chunk(b"xxXx", b"")])) == PHOTO).all()


def test_apple_s_variant_is_an_unsupported_format() -> None:
    data = png(PHOTO, 2, 8)
    assert failure(SIGNATURE + chunk(b"CgBI", b"\x50\0\x20\2") + data[8:]) == ErrorCode.UNSUPPORTED_FORMAT


def test_the_first_frame_of_an_animation_is_the_image_and_its_frames_are_counted() -> None:
    later = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("black", "yellow")]
    for options in ({}, {"default_image": True}):
        data = encoded(Image.fromarray(PHOTO), "PNG", save_all=True, append_images=later, **options)
        assert (decoded(data) == PHOTO).all()
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256, DecodeLimits(max_frames=1))
    assert caught.value.code == ErrorCode.TOO_MANY_FRAMES


def test_missing_rows_fail() -> None:
    for color, depth in itertools.product((0, 2), (8, 16)):
        data = png(np.zeros((8, 8, CHANNELS[color]), np.uint16), color, depth)
        short = data.replace(struct.pack(">II", 8, 8), struct.pack(">II", 8, 9), 1)
        header = short[12:29]
        short = short[:29] + struct.pack(">I", zlib.crc32(header)) + short[33:]
        assert failure(short) == ErrorCode.TRUNCATED


def test_gamma_and_primaries_are_ignored_and_high_dynamic_range_is_refused() -> None:
    gamma, primaries, p3 = struct.pack(">I", 100_000), bytes(32), b"\x0c\x0d\0\1"
    for kind, body in ((b"gAMA", gamma), (b"cHRM", primaries), (b"sRGB", b"\0"), (b"cICP", p3)):
        assert (decoded(png(PHOTO, 2, 8, before=[chunk(kind, body)])) == PHOTO).all()
    for transfer in (16, 18):
        data = png(PHOTO, 2, 8, before=[chunk(b"cICP", bytes([9, transfer, 0, 1]))])
        assert failure(data) == ErrorCode.UNSUPPORTED_FORMAT

"""Decoding and fitting: every kind of picture is right, or refused with its code."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from tagmill.errors import BundleError
from tagmill.outcome import ErrorCode, ImageFailure
from tagmill.preprocess import DecodeLimits, Geometry, PreprocessSpec, content_box, decode, fit, source_box


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_each_format_is_decoded_to_rgb_with_its_own_size(form: str) -> None:
    picture = decode(encoded(Image.new("RGB", (40, 30), (200, 30, 30)), form), 256)
    assert (picture.width, picture.height, picture.format) == (40, 30, form)
    assert picture.rgb.mode == "RGB"
    assert np.allclose(np.asarray(picture.rgb).mean((0, 1)), (200, 30, 30), atol=4)


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")]
)
def test_every_colour_mode_becomes_rgb(mode: str, form: str) -> None:
    picture = decode(encoded(Image.new("RGB", (20, 20), "white").convert(mode), form), 256)
    assert picture.rgb.mode == "RGB"
    assert np.asarray(picture.rgb).min() >= 250


def test_transparent_pixels_are_white() -> None:
    image = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    image.putpixel((3, 4), (0, 0, 255, 255))
    rgb = np.asarray(decode(encoded(image, "PNG"), 256).rgb)
    assert tuple(rgb[0, 0]) == (255, 255, 255)
    assert tuple(rgb[4, 3]) == (0, 0, 255)


def test_a_sixteen_bit_png_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16))
    assert np.asarray(decode(encoded(grey, "PNG"), 256).rgb).mean() == pytest.approx(128, abs=1)


@pytest.mark.parametrize("side", [16, 256])
def test_exif_orientation_turns_the_picture_and_its_size(side: int) -> None:
    image = Image.new("RGB", (600, 400), "white")
    image.paste((0, 0, 0), (0, 0, 300, 400))  # the left half; upright it is the top half
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encoded(image, "JPEG", exif=exif), side)
    assert (picture.width, picture.height) == (400, 600)
    rgb = np.asarray(picture.rgb)
    assert rgb[: len(rgb) // 3].mean() < 5
    assert rgb[-len(rgb) // 3 :].mean() > 250


def test_a_large_jpeg_is_shrunk_while_decoding_and_tells_its_own_size() -> None:
    picture = decode(encoded(noise(1600, 1200), "JPEG"), 256)
    assert (picture.width, picture.height) == (1600, 1200)
    assert 256 <= min(picture.rgb.size) < 1200


def test_what_a_model_reads_does_not_depend_on_the_models_beside_it() -> None:
    assert PreprocessSpec(32, 32).decode_side == PreprocessSpec(256, 256).decode_side == 256
    assert PreprocessSpec(257, 32).decode_side == 512


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.EMPTY),
        (b"this is no picture", ErrorCode.NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ErrorCode.NOT_AN_IMAGE),
        (encoded(noise(200, 200), "JPEG")[:3000], ErrorCode.TRUNCATED),
        (encoded(noise(200, 200), "PNG")[:3000], ErrorCode.TRUNCATED),
        (encoded(noise(64, 64), "PNG").replace(encoded(noise(64, 64), "PNG")[500:508], b"damage!!"), ErrorCode.CORRUPT),
    ],
)
def test_bad_bytes_fail_with_their_code(data: bytes, code: ErrorCode) -> None:
    with pytest.raises(ImageFailure) as failure:
        decode(data, 256)
    assert failure.value.code == code


def test_too_many_pixels_are_refused_from_the_header_alone() -> None:
    data = encoded(Image.new("RGB", (3000, 3000)), "PNG")
    with pytest.raises(ImageFailure) as failure:
        decode(data, 256, DecodeLimits(max_pixels=1_000_000))
    assert failure.value.code == ErrorCode.TOO_MANY_PIXELS
    header_only = data[:33].replace((3000).to_bytes(4, "big"), (60_000).to_bytes(4, "big"))
    with pytest.raises(ImageFailure):
        decode(header_only, 256)


def test_damaged_exif_is_a_code_and_not_a_crash() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (64, 48), "red"), "JPEG", exif=exif)
    start = data.index(b"Exif")
    generator = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(data)
        for place in generator.integers(start + 6, start + 40, 3):
            damaged[place] = generator.integers(256)
        with contextlib.suppress(ImageFailure):  # anything else fails the test
            assert decode(bytes(damaged), 256).rgb.mode == "RGB"


def test_a_picture_between_pillows_limits_is_decided_by_ours_alone() -> None:
    data = encoded(Image.new("1", (13_400, 13_400)), "PNG")
    assert decode(data, 256, DecodeLimits(max_pixels=200_000_000)).width == 13_400
    with pytest.raises(ImageFailure):
        decode(data, 256, DecodeLimits(max_pixels=150_000_000))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 3000), (257, 255)])
@pytest.mark.parametrize("geometry", list(Geometry))
def test_odd_sizes_fit_every_geometry(size: tuple[int, int], geometry: Geometry) -> None:
    picture = decode(encoded(Image.new("RGB", size, "red"), "PNG"), 256)
    array = fit(picture.rgb, PreprocessSpec(24, 32, geometry))
    assert array.shape == (24, 32, 3)
    assert array.dtype == np.uint8


def test_a_letterbox_keeps_the_aspect_ratio_on_white() -> None:
    array = fit(Image.new("RGB", (100, 50), "black"), PreprocessSpec(64, 64, Geometry.LETTERBOX))
    assert array[:15].min() == 255
    assert array[16:48].max() == 0
    assert content_box(100, 50, PreprocessSpec(64, 64, Geometry.LETTERBOX)) == (0, 16, 64, 48)


def test_a_centre_crop_shows_the_middle() -> None:
    image = Image.new("RGB", (90, 30), "white")
    image.paste((0, 0, 0), (30, 0, 60, 30))
    assert fit(image, PreprocessSpec(30, 30, Geometry.CENTER_CROP)).max() == 0
    assert source_box(90, 30, PreprocessSpec(30, 30, Geometry.CENTER_CROP)) == (30.0, 0.0, 60.0, 30.0)


@pytest.mark.parametrize(
    "data",
    [
        {"height": 32, "width": 32},
        {"height": 32, "width": 32, "geometry": "squash"},
        {"height": 0, "width": 32, "geometry": "stretch"},
        {"height": 32, "width": 32, "geometry": "stretch", "mean": [0.5]},
    ],
)
def test_an_unknown_spec_raises(data: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        PreprocessSpec.from_dict(data)

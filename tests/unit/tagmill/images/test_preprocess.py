"""Decode and fit: every kind of image is correct, or refused with its error code."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import encoded

from tagmill.errors import BundleError
from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits
from tagmill.images.preprocess import Geometry, PreprocessSpec, content_box, fit, source_box
from tagmill.outcomes import ErrorCode, ImageFailure


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_each_format_is_decoded_to_rgb_with_its_size(form: str) -> None:
    image = decode(encoded(Image.new("RGB", (40, 30), (200, 30, 30)), form), 256)
    assert (image.width, image.height, image.format) == (40, 30, form)
    assert image.rgb.shape == (30, 40, 3)
    assert np.allclose(image.rgb.mean((0, 1)), (200, 30, 30), atol=4)


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")]
)
def test_every_color_mode_becomes_rgb(mode: str, form: str) -> None:
    image = decode(encoded(Image.new("RGB", (20, 20), "white").convert(mode), form), 256)
    assert image.rgb.shape == (20, 20, 3)
    assert image.rgb.min() >= 250


@pytest.mark.parametrize("side", [16, 256])
def test_exif_orientation_rotates_the_image_and_its_size(side: int) -> None:
    stored = Image.new("RGB", (600, 400), "white")
    stored.paste((0, 0, 0), (0, 0, 300, 400))  # the left half; upright it is the top half
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(encoded(stored, "JPEG", exif=exif), side)
    assert (image.width, image.height) == (400, 600)
    rgb = image.rgb
    assert rgb[: len(rgb) // 3].mean() < 5
    assert rgb[-len(rgb) // 3 :].mean() > 250


def test_a_large_jpeg_is_shrunk_while_decoding_and_keeps_its_size_in_the_record() -> None:
    image = decode(encoded(noise(1600, 1200), "JPEG"), 256)
    assert (image.width, image.height) == (1600, 1200)
    assert 256 <= min(image.rgb.shape[:2]) < 1200


def test_the_input_of_a_model_does_not_depend_on_other_models() -> None:
    assert PreprocessSpec(32, 32).decode_side == PreprocessSpec(256, 256).decode_side == 256
    assert PreprocessSpec(257, 32).decode_side == 257


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.EMPTY),
        (b"this is no image", ErrorCode.NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ErrorCode.UNSUPPORTED_FORMAT),
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


def test_damaged_exif_gives_an_error_code_and_not_a_crash() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (64, 48), "red"), "JPEG", exif=exif)
    start = data.index(b"Exif")
    generator = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(data)
        for place in generator.integers(start + 6, start + 40, 3):
            damaged[place] = generator.integers(256)
        with contextlib.suppress(ImageFailure):  # any other error fails the test
            assert decode(bytes(damaged), 256).rgb.shape[2] == 3


def test_the_pixel_limit_is_ours_and_not_pillows() -> None:
    data = encoded(Image.new("1", (9_600, 9_600)), "PNG")
    assert decode(data, 256, DecodeLimits(max_pixels=100_000_000)).width == 9_600
    with pytest.raises(ImageFailure):
        decode(data, 256, DecodeLimits(max_pixels=90_000_000))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 3000), (257, 255)])
@pytest.mark.parametrize("geometry", list(Geometry))
def test_odd_sizes_fit_every_geometry(size: tuple[int, int], geometry: Geometry) -> None:
    image = decode(encoded(Image.new("RGB", size, "red"), "PNG"), 256)
    array = fit(image.rgb, PreprocessSpec(24, 32, geometry))
    assert array.shape == (24, 32, 3)
    assert array.dtype == np.uint8


def test_a_letterbox_keeps_the_aspect_ratio_on_white() -> None:
    array = fit(np.zeros((50, 100, 3), np.uint8), PreprocessSpec(64, 64, Geometry.LETTERBOX))
    assert array[:15].min() == 255
    assert array[16:48].max() == 0
    assert content_box(100, 50, PreprocessSpec(64, 64, Geometry.LETTERBOX)) == (0, 16, 64, 48)


def test_a_center_crop_shows_the_middle() -> None:
    image = Image.new("RGB", (90, 30), "white")
    image.paste((0, 0, 0), (30, 0, 60, 30))
    assert fit(np.asarray(image), PreprocessSpec(30, 30, Geometry.CENTER_CROP)).max() == 0
    assert source_box(90, 30, PreprocessSpec(30, 30, Geometry.CENTER_CROP)) == (30.0, 0.0, 60.0, 30.0)


@pytest.mark.parametrize("size", [(80, 40), (40, 80), (600, 400)])
def test_a_center_crop_may_keep_a_share_of_the_short_side(size: tuple[int, int]) -> None:
    # As torchvision's evaluation: the short side is scaled to 32 pixels, then the middle 28 by 28 are cropped.
    spec = PreprocessSpec(28, 28, Geometry.CENTER_CROP, 0.875)
    left, top, right, bottom = source_box(*size, spec)
    assert right - left == bottom - top == 0.875 * min(size)
    assert (left + right, top + bottom) == size
    image = Image.new("RGB", size, "white")
    image.paste((0, 0, 0), (round(left), round(top), round(right), round(bottom)))
    assert fit(np.asarray(image), spec).max() == 0
    assert PreprocessSpec.from_dict(spec.to_dict()) == spec


def test_decoding_leaves_what_is_cropped_the_pixels_of_the_input() -> None:
    assert PreprocessSpec(384, 384, Geometry.CENTER_CROP, 0.75).decode_side == 512
    assert PreprocessSpec(224, 224, Geometry.CENTER_CROP, 0.875).decode_side == 256


@pytest.mark.parametrize(
    "data",
    [
        {"height": 32, "width": 32},
        {"height": 32, "width": 32, "geometry": "squash"},
        {"height": 32, "width": 32, "geometry": "stretch", "crop": 0.5},
        {"height": 32, "width": 32, "geometry": "center_crop", "crop": 0},
        {"height": 0, "width": 32, "geometry": "stretch"},
        {"height": 32, "width": 32, "geometry": "stretch", "mean": [0.5]},
    ],
)
def test_an_unknown_spec_raises(data: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        PreprocessSpec.from_dict(data)


@pytest.mark.parametrize("geometry", list(Geometry))
def test_a_row_of_a_batch_is_filled_in_place(geometry: Geometry) -> None:
    rgb = np.asarray(noise(90, 50))
    spec = PreprocessSpec(32, 40, geometry)
    batch = np.full((3, 32, 40, 3), 7, dtype=np.uint8)
    assert fit(rgb, spec, batch[1]).base is batch
    assert (batch[1] == fit(rgb, spec)).all()
    assert (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize("size", [(500, 400), (280, 300), (100, 120)])
def test_fitting_a_photo_agrees_with_an_antialiased_resize(size: tuple[int, int]) -> None:
    photo = noise(30, 30).resize(size, Image.Resampling.BICUBIC)
    wanted = np.asarray(photo.resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(fit(np.asarray(photo), PreprocessSpec(224, 224)) - wanted).mean() < 2


def test_shrinking_averages_every_pixel() -> None:
    checkered = np.indices((256, 256)).sum(0) % 2 * 255
    rgb = np.repeat(checkered[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(fit(rgb, PreprocessSpec(64, 64)).astype(int) - 128).max() <= 1


def test_importing_specs_imports_no_decoder() -> None:
    code = "import sys, tagmill.images.preprocess; sys.exit(bool({'cv2', 'simplejpeg', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

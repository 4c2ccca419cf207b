"""Every format is decoded upright with its true colors, or refused with an error code."""

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps
from support.image_fixtures import (
    dark_gray_profile,
    encoded,
    gray_tiff,
    interlaced_png,
    inverted_ink_profile,
    png_chunks,
    swapped_profile,
)

from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]
CORNERS = {(0, 0): RED, (0, 1): GREEN, (1, 0): BLUE, (1, 1): WHITE}


def quartered(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return an image with one color in each quarter."""
    image = Image.new("RGB", size)
    for (row, column), color in CORNERS.items():
        image.paste(color, (column * size[0] // 2, row * size[1] // 2, size[0], size[1]))
    return image.convert(mode)


def decoded(data: bytes) -> NDArray[np.uint8]:
    return decode(data, 256).rgb


def failure(data: bytes, limits: DecodeLimits | None = None) -> ErrorCode:
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256, limits)
    return caught.value.code


def is_close(actual: NDArray[np.uint8], wanted: Image.Image, tolerance: int = 6) -> bool:
    """Return whether the colors agree, except near the edges, where a codec may blur them."""
    expected = np.asarray(wanted.convert("RGB")).astype(int)
    assert actual.shape == expected.shape
    return bool(np.percentile(np.abs(actual - expected), 90) <= tolerance)


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_decoded_with_its_colors_in_place(form: str) -> None:
    assert is_close(decoded(encoded(quartered(), form)), quartered())


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"keep_rgb": True}, {"quality": 100}]
)
def test_every_kind_of_jpeg_is_decoded_with_its_colors(options: dict[str, object]) -> None:
    assert is_close(decoded(encoded(quartered(), "JPEG", **options)), quartered())


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("L", "JPEG"),
        ("L", "PNG"),
        ("L", "TIFF"),
        ("1", "PNG"),
        ("1", "BMP"),
        ("1", "TIFF"),
        ("LA", "PNG"),
        ("L", "GIF"),
    ],
)
def test_gray_and_black_and_white_become_rgb(mode: str, form: str) -> None:
    image = Image.new("L", (64, 64))
    image.paste(255, (32, 0, 64, 64))
    assert is_close(decoded(encoded(image.convert(mode), form)), image)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_is_decoded_to_its_colors(form: str) -> None:
    assert is_close(decoded(encoded(quartered("RGB").quantize(16), form)), quartered(), 2)


def test_cmyk_is_read_with_inverted_inks_as_adobe_stores_them() -> None:
    inks = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    for data in (encoded(inks, "JPEG", quality=95), encoded(inks, "TIFF")):
        assert is_close(decoded(data), Image.new("RGB", (32, 32), RED))


def test_ycck_is_read_with_inverted_inks_as_adobe_stores_them() -> None:
    stored = np.full((32, 32, 4), (255, 0, 0, 255), dtype=np.uint8)  # inverted: magenta and yellow in full
    data = simplejpeg.encode_jpeg(stored, quality=95, colorspace="CMYK", colorsubsampling="444")
    assert b"Adobe\0\x64" in data
    assert data[data.index(b"Adobe") + 11] == 2, "YCCK"
    assert is_close(decoded(data), Image.new("RGB", (32, 32), RED))


@pytest.mark.parametrize(
    ("mode", "form"),
    [*(("RGBA", form) for form in ("PNG", "WEBP", "TIFF", "AVIF", "HEIF")), ("LA", "PNG"), ("LA", "HEIF")],
)
def test_transparent_pixels_are_white(mode: str, form: str) -> None:
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    assert decoded(encoded(clear, form)).min() == 255


def test_half_transparent_pixels_are_half_white() -> None:
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 128))
    exact = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "HEIF": {"quality": -1}}
    for form, options in {"PNG": {}, "TIFF": {}, **exact}.items():
        assert is_close(decoded(encoded(half, form, **options)), Image.new("RGB", (16, 16), (255, 127, 127)), 1)


def test_a_transparent_color_of_a_palette_is_white() -> None:
    for form in ("GIF", "PNG"):
        image = quartered().quantize(16)
        red = image.getpixel((0, 0))
        rgb = decoded(encoded(image, form, transparency=red))
        assert tuple(rgb[5, 5]) == WHITE
        assert tuple(rgb[60, 5]) == BLUE


@pytest.mark.parametrize(("value", "level"), [(0, 0), (200, 0), (0x8000, 128), (0xFFFF, 255)])
def test_sixteen_bits_are_scaled_by_bit_depth_and_not_by_the_values_in_the_image(value: int, level: int) -> None:
    samples = np.full((8, 8), value, dtype=np.uint16)
    gray = Image.fromarray(samples)
    color = np.stack([samples] * 3, axis=-1)
    for data in (
        encoded(gray, "PNG"),
        encoded(gray, "TIFF"),
        cv2.imencode(".png", color)[1].tobytes(),
        cv2.imencode(".tiff", color)[1].tobytes(),
    ):
        assert np.unique(decoded(data)).tolist() == [level]


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (gray_tiff(struct.pack("<2H", 0xFFFF, 0x8000), 2, 16), [255, 128]),
        (gray_tiff(struct.pack(">2H", 0xFFFF, 0x8000), 2, 16, ">"), [255, 128]),
        (gray_tiff(struct.pack("<2H", 0xFFFF, 0x8000), 2, 16, photometric=0), [0, 127]),
        (gray_tiff(bytes([0xFF, 0xF8, 0x00]), 2, 12), [255, 128]),
        (gray_tiff(bytes([0xFF, 0x80]), 2, 8, photometric=0), [0, 127]),
    ],
    ids=["16 little", "16 big", "16 zero is white", "12", "8 zero is white"],
)
def test_a_gray_tiff_of_any_depth_keeps_its_brightness(data: bytes, levels: list[int]) -> None:
    assert decoded(data)[0, :, 0].tolist() == levels


@pytest.mark.parametrize(("bits", "sample_format"), [(32, 3), (32, 1), (16, 2)])
def test_sample_types_without_a_defined_white_are_refused(bits: int, sample_format: int) -> None:
    data = gray_tiff(bytes(bits // 8 * 4), 4, bits, sample_format=sample_format)
    assert failure(data) == ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("side", [40, 256])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation_rotates_the_image_and_its_size(form: str, orientation: int, side: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(quartered(size=(192, 128)), form, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = decode(data, side)
    assert (image.width, image.height) == wanted.size
    height, width = image.rgb.shape[:2]
    assert is_close(image.rgb, wanted.convert("RGB").resize((width, height)))
    assert side <= min(height, width) < 128 if side == 40 else (width, height) == wanted.size


def test_damaged_exif_does_not_change_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "WEBP"):
        data = encoded(quartered(), form, exif=exif)
        start = data.index(b"II*\0" if b"II*\0" in data else b"MM\0*")
        for damage in (b"XX", b"\xff" * 12, data[start : start + 4] + b"\xff\xff\xff\xff"):
            assert decoded(data[:start] + damage + data[start + len(damage) :]).shape == (64, 96, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_an_embedded_profile_is_converted_to_srgb(form: str) -> None:
    data = encoded(Image.new("RGB", (32, 32), RED), form, icc_profile=swapped_profile())
    assert is_close(decoded(data), Image.new("RGB", (32, 32), BLUE))


def test_a_gray_profile_is_converted_to_srgb() -> None:
    for form in ("JPEG", "PNG"):
        data = encoded(Image.new("L", (32, 32), 128), form, icc_profile=dark_gray_profile())
        assert np.abs(decoded(data).astype(int) - 71).max() <= 1


def test_a_cmyk_profile_is_converted_to_srgb() -> None:
    for form in ("JPEG", "TIFF"):
        for ink, level in ((0, 0), (255, 255)):
            data = encoded(Image.new("CMYK", (32, 32), (ink,) * 4), form, icc_profile=inverted_ink_profile())
            assert np.unique(decoded(data)).tolist() == [level]


@pytest.mark.parametrize(
    "profile", [b"no profile", swapped_profile()[:200], inverted_ink_profile()], ids=["text", "cut", "of another space"]
)
def test_a_profile_that_does_not_fit_the_image_is_ignored(profile: bytes) -> None:
    for form in ("JPEG", "PNG"):
        assert is_close(decoded(encoded(quartered(), form, icc_profile=profile)), quartered())


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_read(form: str) -> None:
    later = [Image.new("RGB", (96, 64), color) for color in ("black", "yellow")]
    data = encoded(quartered(), form, save_all=True, append_images=later)
    assert is_close(decoded(data), quartered())


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_too_many_frames_are_refused(form: str) -> None:
    later = [Image.new("RGB", (8, 8), (0, 0, number * 20)) for number in range(9)]
    data = encoded(Image.new("RGB", (8, 8), "white"), form, save_all=True, append_images=later)
    assert failure(data, DecodeLimits(max_frames=9)) == ErrorCode.TOO_MANY_FRAMES
    assert decode(data, 256, DecodeLimits(max_frames=10)).rgb.min() == 255


@pytest.mark.parametrize("form", FORMATS)
def test_too_many_pixels_are_refused_from_the_header_alone(form: str) -> None:
    data = encoded(Image.new("RGB", (300, 300)), form)
    assert failure(data, DecodeLimits(max_pixels=89_999)) == ErrorCode.TOO_MANY_PIXELS
    assert decode(data, 256, DecodeLimits(max_pixels=90_000)).width == 300


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (16_000, 1), (1, 16_000)])
def test_odd_sizes_are_read(form: str, size: tuple[int, int]) -> None:
    options = {"tile_size": 512} if form == "HEIF" else {}  # its encoder makes no narrower images
    image = decode(encoded(Image.new("RGB", size, RED), form, **options), 256)
    assert (image.width, image.height) == size
    assert np.abs(image.rgb.astype(int) - RED).max() <= 6


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_a_large_image_is_shrunk_but_no_side_below_the_limit(form: str) -> None:
    image = decode(encoded(quartered(size=(960, 640)), form), 100)
    assert (image.width, image.height) == (960, 640)
    assert image.rgb.shape == (107, 160, 3)
    assert is_close(image.rgb, quartered(size=(160, 107)))


VARIANTS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda image: encoded(image, "JPEG"),
    "progressive JPEG": lambda image: encoded(image, "JPEG", progressive=True),
    "CMYK JPEG": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "PNG": lambda image: encoded(image, "PNG"),
    "interlaced PNG": interlaced_png,
    "WebP": lambda image: encoded(image, "WEBP"),
    "lossless WebP": lambda image: encoded(image, "WEBP", lossless=True),
    "animated WebP": lambda image: encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
    "GIF": lambda image: encoded(image, "GIF"),
    "BMP": lambda image: encoded(image, "BMP"),
    "TIFF": lambda image: encoded(image, "TIFF"),
    "LZW TIFF": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "deflated TIFF": lambda image: encoded(image, "TIFF", compression="tiff_adobe_deflate"),
    "AVIF": lambda image: encoded(image, "AVIF"),
    "HEIC": lambda image: encoded(image, "HEIF"),
    "tiled HEIC": lambda image: encoded(image, "HEIF", tile_size=64),
}


def noise(size: int = 80) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_is_decoded_with_its_colors(variant: str) -> None:
    assert is_close(decoded(VARIANTS[variant](quartered())), quartered())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_truncated_file_fails_wherever_it_ends(variant: str) -> None:
    data = VARIANTS[variant](noise())
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        assert failure(data[: int(len(data) * share)]) == ErrorCode.TRUNCATED


@pytest.mark.parametrize(
    "variant", ["JPEG", "progressive JPEG", "CMYK JPEG", "PNG", "interlaced PNG", "LZW TIFF", "deflated TIFF"]
)
def test_a_file_damaged_in_the_middle_fails(variant: str) -> None:
    data = VARIANTS[variant](noise())
    middle = len(data) // 2
    damaged = data[:middle] + np.random.default_rng(2).bytes(200) + data[middle + 200 :]
    assert failure(damaged) == ErrorCode.CORRUPT


@pytest.mark.parametrize("variant", ["PNG", "deflated TIFF"])
def test_in_a_format_with_checksums_one_flipped_bit_fails(variant: str) -> None:
    data = VARIANTS[variant](noise())
    for place in np.random.default_rng(0).integers(200, len(data) * 3 // 4, 20):
        damaged = bytearray(data)
        damaged[place] ^= 1
        assert failure(bytes(damaged)) == ErrorCode.CORRUPT


def test_damage_after_the_first_frame_is_ignored() -> None:
    data = encoded(quartered(), "PNG", save_all=True, append_images=[Image.new("RGB", (96, 64), "black")])
    (start,) = (start for kind, start, _ in png_chunks(data) if kind == b"fdAT")
    assert is_close(decoded(data[: start + 10]), quartered())
    assert is_close(decoded(data[: start + 10] + b"damage" + data[start + 16 :]), quartered())


@pytest.mark.parametrize(
    ("form", "head", "chunk"),
    [("PNG", 33, bytes(4) + b"teXt" + bytes(4)), ("GIF", 13 + 12, b"\x21\xfe\0"), ("WEBP", 12, b"ABCD" + bytes(4))],
)
def test_a_file_with_too_many_tiny_chunks_is_refused(form: str, head: int, chunk: bytes) -> None:
    data = encoded(quartered().quantize(4) if form == "GIF" else quartered(), form)
    data = data[:head] + chunk * 100_001 + data[head:]
    if form == "WEBP":
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert failure(data) == ErrorCode.CORRUPT


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_after_the_end_of_the_image_are_ignored(form: str) -> None:
    data = encoded(quartered(), form)
    assert (decoded(data + b"trailing garbage" * 50) == decoded(data)).all()

"""PNG, GIF, BMP, TIFF and WebP: decode the first frame; an incomplete one is refused."""

import io
import warnings

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from tagmill.images import gif, png, tiff, webp
from tagmill.images.color import to_srgb
from tagmill.images.exif import SIDEWAYS, apply_orientation, orientation
from tagmill.images.image import DecodedImage, DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

#: first bytes of each format; SVG, EPS and all others are refused
_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
#: Pillow's modes of signed, 32-bit and floating point samples: there is no convention which value is white
_UNSUPPORTED_MODES = frozenset({"I", "F", "LAB", "HSV"})
#: words of Pillow's decoders for a truncated file
_TRUNCATED = ("truncated", "unexpected end", "not enough", "no more images")

# Pillow's own limit is a global that warns, which is not thread-safe. DecodeLimits is checked on every header instead.
Image.MAX_IMAGE_PIXELS = None
# Pillow's warnings about metadata do not matter: `read_pillow_format` returns the image or raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_pillow_format(data: bytes, side: int, limits: DecodeLimits) -> DecodedImage:
    """Return the first frame, shrunk by a whole factor with no side below `side` pixels. Raises ImageFailure."""
    name = next((name for name, starts in _SIGNATURES.items() if data.startswith(starts)), None)
    if name is None or (name == "WEBP" and not webp.is_webp(data)):
        raise ImageFailure(ErrorCode.NOT_AN_IMAGE, "no format that is read can be seen in its bytes")
    try:
        if name == "WEBP" and (still := _read_webp(data, side, limits)):
            return still
        if name == "GIF":
            limits.check_frames(gif.count_frames(data, limits.max_frames))
        if name == "PNG":
            png.check_chunks(data)
        if name == "TIFF":
            tiff.check_directory(data)
        with Image.open(io.BytesIO(data), formats=(name,)) as image:
            return _read_opened(image, data, side, limits)
    except (ImageFailure, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageFailure(ErrorCode.CORRUPT, f"its header is not that of a {name} that can be read") from error
    except Exception as error:  # on damaged files Pillow's plugins raise many kinds: struct.error, AttributeError
        raise ImageFailure(_code(error), str(error) or type(error).__name__) from error


def _code(error: Exception) -> ErrorCode:
    truncated = isinstance(error, OSError) and any(word in str(error).lower() for word in _TRUNCATED)
    return ErrorCode.TRUNCATED if truncated else ErrorCode.CORRUPT


def _read_webp(data: bytes, side: int, limits: DecodeLimits) -> DecodedImage | None:
    """Return a still, or None for an animation within the limits, which Pillow reads."""
    header = webp.read_header(data)
    limits.check_size(header.width, header.height)
    limits.check_frames(header.frames)
    if header.frames:
        return None
    return _finish(webp.read_still(data, header), header.icc, orientation(header.exif), side, "WEBP")


def _read_opened(image: ImageFile.ImageFile, data: bytes, side: int, limits: DecodeLimits) -> DecodedImage:
    name = image.format or "unknown"
    limits.check_size(*image.size)
    if name == "TIFF":
        tiff.check_tiles(data, *image.size, limits)
    limits.check_frames(_count_frames(image, data, limits.max_frames))
    if image.mode in _UNSUPPORTED_MODES:
        raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"samples of kind {image.mode} are not read")
    icc = image.info.get("icc_profile")
    # Pillow rotates TIFFs itself.
    rotation = 1 if name == "TIFF" else orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    _load(image, data)
    return _finish(_to_eight_bits(image), icc, rotation, side, name)


def _load(image: ImageFile.ImageFile, data: bytes) -> None:
    if image.format != "TIFF":
        image.load()
        return
    tiff.check_data(image, data)
    ends_early = tiff.ends_early(image, data)
    try:
        image.load()
    except (OSError, ValueError) as error:
        raise ImageFailure(ErrorCode.TRUNCATED if ends_early else _code(error), str(error)) from error


def _finish(image: Image.Image, icc: bytes | None, rotation: int, side: int, name: str) -> DecodedImage:
    rgb = to_srgb(image, icc)
    width, height = rgb.size
    factor = min(width, height) // side
    if factor > 1:
        rgb = rgb.reduce(factor)
    if rotation in SIDEWAYS:
        width, height = height, width
    return DecodedImage(apply_orientation(np.asarray(rgb), rotation), width, height, name)


def _to_eight_bits(image: ImageFile.ImageFile) -> Image.Image:
    """Return an image of 8 bits a sample. 16-bit gray is scaled by its bit depth, not by the values in it."""
    if not image.mode.startswith("I;16"):
        return image
    if image.format == "TIFF":
        return Image.fromarray(tiff.to_eight_bits(image))
    values = np.asarray(image)
    gray = (values >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        gray[values == clear] = 255
    return Image.fromarray(gray)


def _count_frames(image: ImageFile.ImageFile, data: bytes, limit: int) -> int:
    """Return the number of frames, or 1 for a GIF; counting stops at `limit` + 1."""
    if image.format == "TIFF":
        return tiff.count_pages(data, limit)
    # `gif.count_frames` has counted a GIF's: Pillow would decode every frame for it.
    return 1 if image.format == "GIF" else int(getattr(image, "n_frames", 1))

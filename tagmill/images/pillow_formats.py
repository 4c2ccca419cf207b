"""PNG, GIF, BMP, TIFF and WebP: the first frame of each, complete or refused."""

import io
import warnings

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from tagmill.images import gif, png, tiff, webp
from tagmill.images.color import to_srgb
from tagmill.images.exif import SIDEWAYS, orientation, turned
from tagmill.images.image import DecodedImage, DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

#: how the files of each format begin; SVG, EPS and the rest are refused
_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
#: Pillow's modes of signed, 32-bit and floating point samples, which have no white that everyone agrees on
_UNCLEAR = frozenset({"I", "F", "LAB", "HSV"})
#: what a truncated file is called by Pillow's decoders
_ENDED = ("truncated", "unexpected end", "not enough", "no more images")

# Pillow's own limit is a global with a warning, which threads cannot handle; DecodeLimits is checked on every header.
Image.MAX_IMAGE_PIXELS = None
# What Pillow warns of in a file's metadata is not this file's fate: that is what `read_raster` returns or raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_raster(data: bytes, side: int, limits: DecodeLimits) -> DecodedImage:
    """Return the first frame, halved or more where both sides stay at least `side` pixels. Raises ImageFailure."""
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
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files: struct.error, AttributeError
        raise ImageFailure(_code(error), str(error) or type(error).__name__) from error


def _code(error: Exception) -> ErrorCode:
    ended = isinstance(error, OSError) and any(word in str(error).lower() for word in _ENDED)
    return ErrorCode.TRUNCATED if ended else ErrorCode.CORRUPT


def _read_webp(data: bytes, side: int, limits: DecodeLimits) -> DecodedImage | None:
    """Return a still; None for an animation, once it is within the limits."""
    header = webp.read_header(data)
    limits.check_size(header.width, header.height)
    limits.check_frames(header.frames)
    if header.frames:
        return None
    return _finished(webp.read_still(data, header), header.icc, orientation(header.exif), side, "WEBP")


def _read_opened(image: ImageFile.ImageFile, data: bytes, side: int, limits: DecodeLimits) -> DecodedImage:
    name = image.format or "unknown"
    limits.check_size(*image.size)
    if name == "TIFF":
        tiff.check_tiles(data, *image.size, limits)
    limits.check_frames(_frames(image, data, limits.max_frames))
    if image.mode in _UNCLEAR:
        raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"samples of kind {image.mode} are not read")
    icc = image.info.get("icc_profile")
    # Pillow turns TIFFs itself
    turn = 1 if name == "TIFF" else orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    _load(image, data)
    return _finished(_eight_bits(image), icc, turn, side, name)


def _load(image: ImageFile.ImageFile, data: bytes) -> None:
    if image.format != "TIFF":
        image.load()
        return
    tiff.check_data(image, data)
    early = tiff.ends_early(image, data)
    try:
        image.load()
    except (OSError, ValueError) as error:
        raise ImageFailure(ErrorCode.TRUNCATED if early else _code(error), str(error)) from error


def _finished(image: Image.Image, icc: bytes | None, turn: int, side: int, name: str) -> DecodedImage:
    rgb = to_srgb(image, icc)
    width, height = rgb.size
    factor = min(width, height) // side
    if factor > 1:
        rgb = rgb.reduce(factor)
    if turn in SIDEWAYS:
        width, height = height, width
    return DecodedImage(turned(np.asarray(rgb), turn), width, height, name)


def _eight_bits(image: ImageFile.ImageFile) -> Image.Image:
    """Return an image of 8 bits a sample; 16-bit gray by its bit depth, never by the values in it."""
    if not image.mode.startswith("I;16"):
        return image
    if image.format == "TIFF":
        return Image.fromarray(tiff.eight_bits(image))
    values = np.asarray(image)
    gray = (values >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        gray[values == clear] = 255
    return Image.fromarray(gray)


def _frames(image: ImageFile.ImageFile, data: bytes, most: int) -> int:
    """Return the number of frames, 1 for a GIF; where it must be counted, no further than one over `most`."""
    if image.format == "TIFF":
        return tiff.count_pages(data, most)
    # a GIF's were counted before: Pillow would read all of them for this
    return 1 if image.format == "GIF" else int(getattr(image, "n_frames", 1))

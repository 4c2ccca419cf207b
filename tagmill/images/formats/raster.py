"""PNG, GIF, BMP, TIFF, WebP, AVIF and HEIC: decode the first frame, shrink it, and rotate it upright."""

import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image

from tagmill.images.color import to_srgb
from tagmill.images.exif import SIDEWAYS, apply_orientation
from tagmill.images.formats.bmp import read_bmp
from tagmill.images.formats.gif import read_gif
from tagmill.images.formats.heif.read import read_heif
from tagmill.images.formats.png import read_png
from tagmill.images.formats.signatures import read_format
from tagmill.images.formats.still import Still
from tagmill.images.formats.tiff.read import read_tiff
from tagmill.images.formats.webp import read_webp
from tagmill.images.image import DecodedImage, DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

_READERS: dict[str, Callable[[bytes, DecodeLimits], Still]] = {
    "PNG": read_png,
    "GIF": read_gif,
    "BMP": read_bmp,
    "TIFF": read_tiff,
    "WEBP": read_webp,
    "AVIF": read_heif,
    "HEIC": read_heif,
}
#: words of Pillow's decoders for a truncated file
_TRUNCATED = ("truncated", "unexpected end", "not enough", "no more images")

# Pillow's own limit is a global that warns, which is not thread-safe. DecodeLimits is checked on every header instead.
Image.MAX_IMAGE_PIXELS = None
# Pillow's warnings about metadata do not matter: `read_raster` returns the image or raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_raster(data: bytes, side: int, limits: DecodeLimits) -> DecodedImage:
    """Return the first frame, shrunk by a whole factor with no side below `side` pixels. Raises ImageFailure."""
    name = read_format(data)
    try:
        still = _READERS[name](data, limits)
    except (ImageFailure, MemoryError):
        raise
    except Exception as error:  # on damaged files Pillow's plugins raise many kinds: struct.error, AttributeError
        raise ImageFailure(_code(error), f"{name}: {error or type(error).__name__}") from error
    rgb = to_srgb(still.image, still.icc, still.alpha)
    width, height = rgb.size
    factor = min(width, height) // side
    if factor > 1:
        rgb = rgb.reduce(factor)
    if still.orientation in SIDEWAYS:
        width, height = height, width
    return DecodedImage(apply_orientation(np.asarray(rgb), still.orientation), width, height, name)


def _code(error: Exception) -> ErrorCode:
    truncated = isinstance(error, OSError) and any(word in str(error).lower() for word in _TRUNCATED)
    return ErrorCode.TRUNCATED if truncated else ErrorCode.CORRUPT

"""From the bytes of a picture to the uint8 array a model reads: the one way used by training, export and worker."""

import io
import warnings
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from tagmill.errors import BundleError
from tagmill.outcome import ErrorCode, ImageFailure

#: Formats that are decoded; SVG, EPS and the rest are refused.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# Pillow's own limit is a global with a warning, which threads cannot handle; DecodeLimits is checked on every header.
Image.MAX_IMAGE_PIXELS = None
# What Pillow warns of in a file's metadata is not this file's fate: that is what `decode` returns or raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

Pixels = NDArray[np.uint8]
#: left, top, right, bottom
Box = tuple[float, float, float, float]


class Geometry(StrEnum):
    """How a picture of any shape is brought to the model's input shape."""

    #: both sides are scaled to fit, the aspect ratio is lost
    STRETCH = "stretch"
    #: scaled to fit inside, the rest is filled with white
    LETTERBOX = "letterbox"
    #: scaled so that the short side fits, the middle is cut out
    CENTER_CROP = "center_crop"


@dataclass(frozen=True)
class PreprocessSpec:
    """What a model needs to be fed; travels in its bundle."""

    height: int
    width: int
    geometry: Geometry = Geometry.STRETCH

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Raise BundleError for unknown fields and values."""
        try:
            spec = cls(int(data["height"]), int(data["width"]), Geometry(data["geometry"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"preprocessing spec {data!r} is not understood: {error}") from error
        if unknown := set(data) - set(asdict(spec)):
            raise BundleError(f"preprocessing spec has unknown fields: {', '.join(sorted(unknown))}")
        if not (1 <= spec.height <= 4096 and 1 <= spec.width <= 4096):
            raise BundleError(f"preprocessing size {spec.height}x{spec.width} is outside 1..4096")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @property
    def decode_side(self) -> int:
        """Least length in pixels that JPEG decoding may shrink a side to: 256, or the next power of two.

        It depends on nothing but the spec, so that a result never depends on which other models ran beside.
        """
        return max(256, 1 << (max(self.height, self.width) - 1).bit_length())


@dataclass(frozen=True)
class Picture:
    """A decoded picture: upright RGB pixels, with the size that the file announces (upright, before shrinking)."""

    rgb: Image.Image
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class DecodeLimits:
    """Checked before any pixel is decoded."""

    max_pixels: int = 100_000_000


def decode(data: bytes, side: int, limits: DecodeLimits | None = None) -> Picture:
    """Decode to upright RGB, alpha on white; JPEGs are shrunk while decoding, no side below `side` pixels.

    Raises ImageFailure with the code of what is wrong with the bytes.
    """
    limits = limits or DecodeLimits()
    if not data:
        raise ImageFailure(ErrorCode.EMPTY, "0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decode_opened(image, side, limits)
    except ImageFailure:
        raise
    except UnidentifiedImageError as error:
        raise ImageFailure(ErrorCode.NOT_AN_IMAGE, "no format that is read can be seen in its bytes") from error
    except (OSError, EOFError) as error:
        code = ErrorCode.TRUNCATED if "truncated" in str(error).lower() else ErrorCode.CORRUPT
        raise ImageFailure(code, str(error)) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files: struct.error, AttributeError
        raise ImageFailure(ErrorCode.CORRUPT, f"{type(error).__name__}: {error}") from error


def fit(rgb: Image.Image, spec: PreprocessSpec) -> Pixels:
    """Return uint8 [height, width, 3], bilinear with antialiasing (Pillow's `resize`)."""
    target = (spec.width, spec.height)
    if spec.geometry is Geometry.LETTERBOX:
        left, top, right, bottom = _letterbox(rgb.width, rgb.height, spec)
        canvas = Image.new("RGB", target, "white")
        canvas.paste(rgb.resize((right - left, bottom - top), Image.Resampling.BILINEAR), (left, top))
        return np.asarray(canvas)
    box = source_box(rgb.width, rgb.height, spec)
    return np.asarray(rgb.resize(target, Image.Resampling.BILINEAR, box=box))


def source_box(width: int, height: int, spec: PreprocessSpec) -> Box:
    """Return which part of a width x height picture the model's input shows, in the picture's pixels.

    For a letterbox it reaches outside the picture: the white border is part of the input.
    """
    if spec.geometry is Geometry.STRETCH:
        return (0.0, 0.0, float(width), float(height))
    if spec.geometry is Geometry.CENTER_CROP:
        scale = min(width / spec.width, height / spec.height)
        left, top = (width - spec.width * scale) / 2, (height - spec.height * scale) / 2
        return (left, top, left + spec.width * scale, top + spec.height * scale)
    left_px, top_px, right_px, bottom_px = _letterbox(width, height, spec)
    scale_x, scale_y = width / (right_px - left_px), height / (bottom_px - top_px)
    return (
        -left_px * scale_x,
        -top_px * scale_y,
        (spec.width - left_px) * scale_x,
        (spec.height - top_px) * scale_y,
    )


def content_box(width: int, height: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    """Return which part of the model's input shows the picture (left, top, right, bottom), in input pixels."""
    if spec.geometry is Geometry.LETTERBOX:
        return _letterbox(width, height, spec)
    return (0, 0, spec.width, spec.height)


def _letterbox(width: int, height: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    scale = min(spec.width / width, spec.height / height)
    inner_width = max(1, min(spec.width, round(width * scale)))
    inner_height = max(1, min(spec.height, round(height * scale)))
    left, top = (spec.width - inner_width) // 2, (spec.height - inner_height) // 2
    return (left, top, left + inner_width, top + inner_height)


def _decode_opened(image: ImageFile.ImageFile, side: int, limits: DecodeLimits) -> Picture:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageFailure(ErrorCode.TOO_MANY_PIXELS, f"{width}x{height} is over {limits.max_pixels} pixels")
    name = image.format or "unknown"
    image.draft("RGB", (side, side))
    upright = ImageOps.exif_transpose(image)
    if (upright.width > upright.height) != (image.width > image.height):
        width, height = height, width
    return Picture(_to_rgb(upright), width, height, name)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image.copy() if isinstance(image, ImageFile.ImageFile) else image
    if image.mode.startswith("I") or image.mode == "F":
        return _sixteen_bit_to_rgb(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _sixteen_bit_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
    grey = np.clip(values * (255.0 / top), 0, 255).astype(np.uint8)
    return Image.fromarray(grey, "L").convert("RGB")

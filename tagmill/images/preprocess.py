"""The preprocessing shared by training, export and worker: from decoded pixels to the input of a model."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np

from tagmill.errors import BundleError
from tagmill.images.image import Pixels

#: pixels below which decoding shrinks no side, whatever the model, so that most models share one decoded image
_SHARED_SIDE = 256
#: left, top, right, bottom
Box = tuple[float, float, float, float]


class Geometry(StrEnum):
    """How an image of any shape is fitted to the model's input shape."""

    #: both sides are scaled to fit; the aspect ratio changes
    STRETCH = "stretch"
    #: scaled to fit inside; the rest is white
    LETTERBOX = "letterbox"
    #: scaled until the short side fits; the center is kept, or a `crop` of it
    CENTER_CROP = "center_crop"


@dataclass(frozen=True)
class PreprocessSpec:
    """The input that a model expects; stored in its bundle."""

    height: int
    width: int
    geometry: Geometry = Geometry.STRETCH
    #: share of the short side that a center crop keeps: 0.875 if 224 of 256 pixels are cropped
    crop: float = 1.0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Parse the JSON values of a bundle. Raise BundleError for unknown fields and values."""
        try:
            crop = float(data.get("crop", 1.0))
            spec = cls(int(data["height"]), int(data["width"]), Geometry(data["geometry"]), crop)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"preprocessing spec {data!r} is not understood: {error}") from error
        if unknown := set(data) - set(asdict(spec)):
            raise BundleError(f"preprocessing spec has unknown fields: {', '.join(sorted(unknown))}")
        if not (1 <= spec.height <= 4096 and 1 <= spec.width <= 4096):
            raise BundleError(f"preprocessing size {spec.height}x{spec.width} is outside 1..4096")
        if not 0 < spec.crop <= 1 or (spec.crop < 1 and spec.geometry is not Geometry.CENTER_CROP):
            raise BundleError(f"preprocessing crop {spec.crop:g} is not a share of the short side of a center crop")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; without `crop` if it is 1, as in earlier bundles."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("crop", 1.0)}

    @property
    def decode_side(self) -> int:
        """Pixels below which decoding must shrink no side: 256, or the longer side of a larger input before cropping.

        It depends only on the spec, so a result never depends on the other models of the run.
        """
        return max(_SHARED_SIDE, math.ceil(max(self.height, self.width) / self.crop))


def fit(rgb: Pixels, spec: PreprocessSpec, out: Pixels | None = None) -> Pixels:
    """Return uint8 [height, width, 3]: `out` if it is given (C-contiguous, of that shape), else a new array.

    Shrinking by 2 or more in either direction averages areas (OpenCV's INTER_AREA); other scaling is bilinear.
    """
    from tagmill.images.resize import resize  # here, because producers read specs and install no OpenCV

    if out is None:
        out = np.empty((spec.height, spec.width, 3), dtype=np.uint8)
    height, width = rgb.shape[:2]
    left, top, right, bottom = content_box(width, height, spec)
    if spec.geometry is Geometry.LETTERBOX:
        out[:] = 255
    x0, y0, x1, y1 = _whole_pixels(source_box(width, height, spec), width, height)
    resize(rgb[y0:y1, x0:x1], out[top:bottom, left:right])
    return out


def source_box(width: int, height: int, spec: PreprocessSpec) -> Box:
    """Return the part of a width x height image that the model's input shows, in pixels of the image.

    For a letterbox, the box is larger than the image, because the white border is part of the input.
    """
    if spec.geometry is Geometry.STRETCH:
        return (0.0, 0.0, float(width), float(height))
    if spec.geometry is Geometry.CENTER_CROP:
        scale = min(width / spec.width, height / spec.height) * spec.crop
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
    """Return the part of the model's input that shows the image (left, top, right, bottom), in pixels of the input."""
    if spec.geometry is Geometry.LETTERBOX:
        return _letterbox(width, height, spec)
    return (0, 0, spec.width, spec.height)


def _letterbox(width: int, height: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    scale = min(spec.width / width, spec.height / height)
    inner_width = max(1, min(spec.width, round(width * scale)))
    inner_height = max(1, min(spec.height, round(height * scale)))
    left, top = (spec.width - inner_width) // 2, (spec.height - inner_height) // 2
    return (left, top, left + inner_width, top + inner_height)


def _whole_pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the whole pixels of a box inside the image (left, top, right, bottom), at least one in each direction."""
    left, top = min(max(0, round(box[0])), width - 1), min(max(0, round(box[1])), height - 1)
    return left, top, max(left + 1, min(width, round(box[2]))), max(top + 1, min(height, round(box[3])))

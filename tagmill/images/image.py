"""A decoded image, and the limits that its header is held against before any pixel is decoded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tagmill.outcomes import ErrorCode, ImageFailure

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class DecodedImage:
    """Upright pixels, uint8 [H, W, 3] RGB, with the size that the file announces (upright, before shrinking)."""

    rgb: Pixels
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class DecodeLimits:
    """What a header may announce at most."""

    max_pixels: int = 100_000_000
    #: frames of an animation, pages of a TIFF
    max_frames: int = 1000

    def check_size(self, width: int, height: int) -> None:
        """Raise ImageFailure for an image with too many pixels, or none."""
        if width < 1 or height < 1:
            raise ImageFailure(ErrorCode.CORRUPT, f"the header announces {width}x{height} pixels")
        if width * height > self.max_pixels:
            raise ImageFailure(ErrorCode.TOO_MANY_PIXELS, f"{width}x{height} is over {self.max_pixels} pixels")

    def check_frames(self, frames: int) -> None:
        """Raise ImageFailure for a file with too many frames."""
        if frames > self.max_frames:
            raise ImageFailure(ErrorCode.TOO_MANY_FRAMES, f"more than {self.max_frames} frames")

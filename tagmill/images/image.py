"""The decoded image, the file suffixes of the formats, and the limits on what a header may announce."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tagmill.outcomes import ErrorCode, ImageFailure

Pixels = NDArray[np.uint8]

#: lower-case suffixes of the files that are searched for in folders; `decode` goes by the bytes, not by the suffix
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif"),
    *(".jfif", ".jpe", ".jif", ".jfi", ".apng", ".dib", ".btf"),
)
#: lower-case suffixes of images in formats that are not read, for those who look for images and count what they skip
UNREAD_SUFFIXES = (
    *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jpm", ".j2c", ".jxr", ".wdp", ".hdp", ".jls"),
    *(".svg", ".svgz", ".eps", ".ai", ".pdf", ".wmf", ".emf"),
    *(".psd", ".psb", ".xcf", ".kra", ".afphoto"),
    *(".ico", ".cur", ".icns", ".tga", ".pcx", ".dds", ".qoi", ".sgi", ".xbm", ".xpm"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm", ".hdr", ".exr"),
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".rw2", ".orf", ".pef", ".srw"),
    *(".3fr", ".erf", ".kdc", ".mos", ".mrw", ".iiq", ".rwl", ".x3f", ".raw"),
)


@dataclass(frozen=True)
class DecodedImage:
    """Upright pixels, uint8 [H, W, 3] RGB, with the size in the file's header (upright, before shrinking)."""

    rgb: Pixels
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class DecodeLimits:
    """The most that a header may announce, checked before any pixel is decoded."""

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

"""The first frame of a file as its format's decoder returns it."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Still:
    """Pixels as stored: neither upright nor sRGB, and possibly with alpha."""

    #: mode L, LA, RGB, RGBA or CMYK; L and RGB may name a transparent color in `info`
    image: Image.Image
    icc: bytes | None = None
    #: EXIF orientation 1..8
    orientation: int = 1
    #: mode L, of an image whose mode has no alpha
    alpha: Image.Image | None = None

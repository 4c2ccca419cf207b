"""Convert colors to sRGB: embedded ICC profiles, CMYK, alpha on white."""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

#: bytes of a profile; larger ones are ignored
MAX_PROFILE = 4 * 2**20
#: gray levels by which a profile may differ from sRGB and still count as sRGB
_SRGB_TOLERANCE = 3
#: Pillow's mode for a profile's color space
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@dataclass(frozen=True)
class _Conversion:
    mode: str
    transform: ImageCms.ImageCmsTransform


def needs_conversion(icc: bytes | None) -> bool:
    """Return whether the profile is usable and not sRGB."""
    return icc is not None and _conversion(icc) is not None


def to_srgb(image: Image.Image, icc: bytes | None, alpha: Image.Image | None = None) -> Image.Image:
    """Return mode RGB, alpha on white. A profile that does not fit the image is ignored.

    CMYK without a profile is converted by Pillow's formula, (255 - ink) * (255 - black) / 255.
    """
    if image.has_transparency_data:
        layers = image if image.mode in {"LA", "RGBA"} else image.convert("LA" if image.mode == "L" else "RGBA")
        return to_srgb(layers.convert("L" if layers.mode == "LA" else "RGB"), icc, layers.getchannel("A"))
    color = _without_alpha(image, icc)
    if alpha is None:
        return color
    white = Image.new("RGB", image.size, "white")
    white.paste(color, mask=alpha)
    return white


def _without_alpha(image: Image.Image, icc: bytes | None) -> Image.Image:
    conversion = _conversion(icc) if icc else None
    if conversion is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if conversion.mode == "RGB" and image.mode != "CMYK":
        image = image.convert("RGB")
    if image.mode != conversion.mode:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, conversion.transform)
    assert converted is not None, "only a transform in place returns nothing"
    return converted


@lru_cache(maxsize=16)
def _conversion(icc: bytes) -> _Conversion | None:
    """Return the conversion from the profile to sRGB, or None for sRGB itself and for an unusable profile."""
    if len(icc) > MAX_PROFILE:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = _MODES.get(profile.profile.xcolor_space.strip())
        if mode is None:
            return None
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile does not damage the pixels
        return None
    return None if mode == "RGB" and _is_srgb(transform) else _Conversion(mode, transform)


def _is_srgb(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 6, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(6, 36, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colors), transform)
    if converted is None:
        return False
    return int(np.abs(np.asarray(converted).astype(int) - colors).max()) <= _SRGB_TOLERANCE

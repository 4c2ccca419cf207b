"""The colors of the product, by the names of Shopify's product taxonomy (attribute Color).

Each pixel gets the name of the nearest of some reference colors in CIELAB, by the difference CIEDE2000 (Sharma, Wu and
Dalal, The CIEDE2000 Color-Difference Formula, 2005). The references are CSS's named colors (CSS Color Module Level 4)
whose name holds the word, and for words that cover much of the color space, such as brown, further typical cloths.
Gold, silver, bronze, rose gold and clear are looks of a material and no colors of a pixel: they are never given.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmill.images.image import Pixels

ATTRIBUTE = "color"
MULTICOLOR = "Multicolor"
#: name -> sRGB values
REFERENCES: dict[str, tuple[str, ...]] = {
    "Beige": ("f5f5dc", "d2b48c", "e3d3b8", "c8b596", "f5deb3"),
    "Black": ("000000", "161616", "222226"),
    "Blue": ("0000ff", "4682b4", "6495ed", "add8e6", "1e90ff", "4169e1", "5b7fa6", "3b5f8f"),
    "Brown": ("8b4513", "a0522d", "5c4033", "7b5b45", "4b3621", "986b45"),
    "Gray": ("808080", "a9a9a9", "696969", "c4c4c4", "4a4a4c"),
    "Green": ("008000", "006400", "2e8b57", "90ee90", "6b8e23", "556b2f", "00ff00", "40806a", "98a888"),
    "Navy": ("000080", "191970", "1f2a44", "2a3558"),
    "Orange": ("ffa500", "ff8c00", "ff7f50", "e2703a"),
    "Pink": ("ffc0cb", "ff69b4", "ff1493", "e8a0b0", "d65c8a", "f4d4d8"),
    "Purple": ("800080", "9370db", "4b0082", "8a2be2", "d8bfd8", "6a4a7c", "b39bc8"),
    "Red": ("ff0000", "b22222", "8b0000", "dc143c", "c43c3c", "6e1a22"),
    "White": ("ffffff", "f2f2f2", "e8e8e8", "faf6ee"),
    "Yellow": ("ffff00", "ffd700", "f0e68c", "ecb240", "e8d060"),
}
#: least share of the product's pixels that a color takes, and how many colors are given
LEAST, MOST = 0.12, 3
#: a product is multicolored if so many colors take LEAST of it, and none takes more than this
_MANY, _DOMINANT = 3, 0.5
#: levels per channel among which colors are told apart
_LEVELS = 32


def colors_of(rgb: Pixels, inside: NDArray[np.bool_]) -> list[tuple[str, str, float]]:
    """Return (attribute, name, share) of the product's colors, most first; `inside` is bool [H, W].

    A product of many colors is also Multicolor, with the share that its first color does not take.
    """
    bins = (rgb[inside] // (256 // _LEVELS)).astype(np.int64)
    numbers = names_of_bins()[bins[:, 0] * _LEVELS**2 + bins[:, 1] * _LEVELS + bins[:, 2]]
    shares = np.bincount(numbers, minlength=len(REFERENCES)) / max(1, len(numbers))
    names = tuple(REFERENCES)
    order = [int(number) for number in np.argsort(-shares, kind="stable") if shares[number] >= LEAST]
    found = [(ATTRIBUTE, names[number], float(shares[number])) for number in order[:MOST]]
    if len(order) >= _MANY and shares[order[0]] < _DOMINANT:
        found.append((ATTRIBUTE, MULTICOLOR, float(1 - shares[order[0]])))
    return found


@lru_cache(maxsize=1)
def names_of_bins() -> NDArray[np.int64]:
    """Return the number of the name of each bin of colors, int64 [32 * 32 * 32]. It takes a second, once."""
    half = 256 // _LEVELS // 2
    axis = np.arange(_LEVELS) * (256 // _LEVELS) + half
    bins = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    owners = [number for number, values in enumerate(REFERENCES.values()) for _ in values]
    colors = [list(bytes.fromhex(value)) for values in REFERENCES.values() for value in values]
    found = _lab(bins)
    distances = np.stack([ciede2000(found, reference) for reference in _lab(np.array(colors))])
    return np.asarray(np.array(owners)[distances.argmin(axis=0)], np.int64)


def _lab(rgb: NDArray[np.int64]) -> NDArray[np.float64]:
    values = (rgb.astype(np.float32) / 255)[None]
    return np.asarray(cv2.cvtColor(values, cv2.COLOR_RGB2LAB)[0], np.float64)


def ciede2000(lab: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the difference of colors [N, 3] from one color [3], all in CIELAB."""
    chroma, chroma_other = np.hypot(lab[:, 1], lab[:, 2]), np.hypot(other[1], other[2])
    mean7 = ((chroma + chroma_other) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(mean7 / (mean7 + 25.0**7))
    a, a_other = lab[:, 1] * stretch, other[1] * stretch
    c, c_other = np.hypot(a, lab[:, 2]), np.hypot(a_other, other[2])
    hue = np.degrees(np.arctan2(lab[:, 2], a)) % 360
    hue_other = np.degrees(np.arctan2(other[2], a_other)) % 360
    turn = (hue_other - hue + 180) % 360 - 180
    gray = c * c_other == 0
    turn = np.where(gray, 0.0, turn)
    delta_hue = 2 * np.sqrt(c * c_other) * np.sin(np.radians(turn / 2))
    mean_hue = np.where(gray, hue + hue_other, (hue + turn / 2) % 360)
    light, mean_c = (lab[:, 0] + other[0]) / 2, (c + c_other) / 2
    weight = (
        1
        - 0.17 * np.cos(np.radians(mean_hue - 30))
        + 0.24 * np.cos(np.radians(2 * mean_hue))
        + 0.32 * np.cos(np.radians(3 * mean_hue + 6))
        - 0.20 * np.cos(np.radians(4 * mean_hue - 63))
    )
    scale_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    scale_c, scale_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * weight
    rotation = 60 * np.exp(-(((mean_hue - 275) / 25) ** 2))
    mean_c7 = mean_c**7
    mixed = -2 * np.sqrt(mean_c7 / (mean_c7 + 25.0**7)) * np.sin(np.radians(rotation))
    parts = ((other[0] - lab[:, 0]) / scale_l, (c_other - c) / scale_c, delta_hue / scale_h)
    squared = parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + mixed * parts[1] * parts[2]
    return np.asarray(np.sqrt(np.maximum(squared, 0)), np.float64)

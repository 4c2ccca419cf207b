"""Masks: a model's index map as COCO run-length encoding, at the size of the image, and as a file."""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from tagmill.images.preprocess import PreprocessSpec, content_box, source_box
from tagmill.records import Mask

Index = NDArray[np.uint8]

#: bytes of one part of the path of a mask's file; digits and .png may be added
_MAX_PART_BYTES = 200

#: Kelly's colors of maximum contrast (1965), of which the first suit people with color blindness too; teal, not gray
_CONTRAST = (
    "f3c300 875692 f38400 a1caf1 be0032 c2b280 00a6a6 008856 e68fac 0067a5 "
    "f99379 604e97 f6a600 b3446c dcd300 882d17 8db600 654522 e25822 2b3d26"
)


def encode_masks(
    index: Index,
    scores: Sequence[float],
    labels: Sequence[str],
    background: str | None,
    spec: PreprocessSpec,
    width: int,
    height: int,
) -> tuple[Mask, ...]:
    """Return one mask for each label in `index`, uint8 [H, W] at the model's resolution, except the background.

    `width` and `height` are the size of the image in pixels; bounding boxes are in pixels of the image.
    """
    left, top, right, bottom = content_box(width, height, spec)
    content = index[top:bottom, left:right]
    seen = np.bincount(content.ravel(), minlength=len(labels))
    rows = []
    for number in np.flatnonzero(seen).tolist():
        name = labels[number]
        if name == background:
            continue
        inside = np.zeros(index.shape, dtype=np.uint8, order="F")
        inside[top:bottom, left:right] = content == number
        encoded = coco.encode(inside)
        rows.append(
            Mask(
                label=name,
                rle=encoded["counts"].decode("ascii"),
                height=index.shape[0],
                width=index.shape[1],
                area_share=float(seen[number] / content.size),
                box=_image_box(coco.toBbox(encoded), spec, width, height),
                score=float(scores[number]),
            )
        )
    return tuple(rows)


def decode_mask(rle: str, mask_height: int, mask_width: int) -> NDArray[np.bool_]:
    """Return bool [mask_height, mask_width] at the model's resolution."""
    decoded = coco.decode({"size": [mask_height, mask_width], "counts": rle.encode("ascii")})
    return np.asarray(decoded, dtype=bool)


def to_image_size(index: Index, spec: PreprocessSpec, width: int, height: int, fill: int = 0) -> Index:
    """Scale an index map uint8 [H, W] from the model's resolution to uint8 [height, width], nearest neighbor.

    Pixels that a center crop cut off are `fill`.
    """
    left, top, right, bottom = content_box(width, height, spec)
    content = Image.fromarray(np.ascontiguousarray(index[top:bottom, left:right]))
    x0, x1, y0, y1 = image_span(spec, width, height)
    scaled = np.full((height, width), fill, dtype=np.uint8)
    scaled[y0:y1, x0:x1] = np.asarray(content.resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST))
    return scaled


def image_span(spec: PreprocessSpec, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the pixels of an image that a mask covers: its columns from x0 to x1 and rows from y0 to y1."""
    box = source_box(width, height, spec)
    return *_span(box[0], box[2], width), *_span(box[1], box[3], height)


def safe_name(image_key: str, *, ignores_case: bool = False) -> PurePosixPath:
    """Return the relative path of a mask's file for any image_key. It never leads out of its folder.

    A key that is not a safe file name gets a few digits of its sha256 behind a `~`, which no safe name holds, so that
    two keys never share a file. If the disk `ignores_case`, so does a key with capital letters.
    """
    parts = [_cut(re.sub(r"[^\w.\- ]", "_", part)) for part in image_key.split("/") if part.strip(". ")] or ["_"]
    # A folder never has the name of a mask or of labels.json, which may be in the same folder.
    parts[:-1] = [f"{part}_" if part.lower().endswith((".png", ".json")) else part for part in parts[:-1]]
    if "/".join(parts) != image_key or (ignores_case and image_key != image_key.casefold()):
        parts[-1] += f"~{digits_of(image_key)}"
    return PurePosixPath(*parts[:-1], f"{parts[-1]}.png")


def digits_of(name: str) -> str:
    """Return eight digits of the sha256 of a name, to tell it from others."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _cut(part: str) -> str:
    return part.encode()[:_MAX_PART_BYTES].decode(errors="ignore")


def png_palette(labels: int) -> list[int]:
    """Return the R, G and B of each label in a mask PNG, 0 to 255: black first, then hues the golden angle apart.

    Programs read the label numbers of a mask PNG; its colors stay as they are so that the same mask has the same bytes.
    """
    colors = [0, 0, 0]
    for number in range(1, labels):
        hue = round(number * 0.618034 * 255) % 256
        colors += Image.new("HSV", (1, 1), (hue, 170, 235)).convert("RGB").getpixel((0, 0))  # type: ignore[arg-type]
    return colors


def figure_colors() -> NDArray[np.float64]:
    """Return the color of each label in a figure, float [256, 3] of 0..1; the colors repeat after 20.

    People read figures. With protanopia the first eight are at least 20 apart (Delta E 1976, simulated as in Machado et
    al. 2009), those of `png_palette` 2.6; of its first 15 two are the same.
    """
    colors = np.array([list(bytes.fromhex(color)) for color in _CONTRAST.split()]) / 255
    found: NDArray[np.float64] = colors[(np.arange(256) - 1) % len(colors)]
    return found


def _span(start: float, end: float, length: int) -> tuple[int, int]:
    """Return the range of pixels from `start` to `end`, clipped to the image, of at least one pixel."""
    first = min(max(0, math.floor(start + 0.5)), length - 1)
    return first, max(first + 1, min(length, math.floor(end + 0.5)))


def _image_box(
    box: Sequence[float], spec: PreprocessSpec, width: int, height: int
) -> tuple[float, float, float, float]:
    source_left, source_top, source_right, source_bottom = source_box(width, height, spec)
    scale_x, scale_y = (source_right - source_left) / spec.width, (source_bottom - source_top) / spec.height
    x, y, box_width, box_height = (float(value) for value in box)
    return (
        max(0.0, source_left + x * scale_x),
        max(0.0, source_top + y * scale_y),
        min(float(width), source_left + (x + box_width) * scale_x),
        min(float(height), source_top + (y + box_height) * scale_y),
    )

"""Thumbnails and outlines: their size and their place."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from producer.report.preview.outlines import COARSE_FROM, Detail, outline, view_box
from producer.report.preview.thumbnails import TOTAL_BYTES, ThumbnailSize, thumbnail
from tagmill.images.image import DecodeLimits
from tagmill.images.preprocess import Geometry, PreprocessSpec, content_box
from tagmill.tasks.masks import encode_masks

LABELS = ("background", "cloth")


def noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.parametrize("images", [1, 500, 3_000, 10_000])
def test_even_noise_stays_within_the_bytes_of_a_page(images: int) -> None:
    size = ThumbnailSize.for_images(images)
    data = thumbnail(noise(600, 800), size, DecodeLimits())
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, max(image.size)) == ("WEBP", size.side)
    assert len(data) <= 1.7 * size.most
    assert size.most * images <= TOTAL_BYTES


def test_a_small_image_is_not_enlarged() -> None:
    with Image.open(io.BytesIO(thumbnail(noise(20, 30), ThumbnailSize.for_images(1), DecodeLimits()))) as image:
        assert image.size == (20, 30)


@pytest.mark.parametrize("images", [1, COARSE_FROM], ids=["fine", "coarse"])
@pytest.mark.parametrize("geometry", list(Geometry))
@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (64, 64)], ids=str)
def test_an_outline_lies_where_the_mask_lies_in_the_image(
    geometry: Geometry, shape: tuple[int, int], images: int
) -> None:
    width, height = shape
    detail = Detail.for_images(images)
    spec = PreprocessSpec(64, 64, geometry)
    left, top, right, bottom = content_box(width, height, spec)
    index = np.zeros((64, 64), dtype=np.uint8)
    index[top:bottom, left:right] = 1
    if geometry is not Geometry.CENTER_CROP:
        index[top:bottom, (left + right) // 2 :] = 0  # the left half of the image
    (mask,) = encode_masks(index, [0.0, 0.9], LABELS, "background", spec, width, height)
    xs, ys = corners(outline(mask, spec, width, height, detail))
    scale = max(width, height) / detail.units
    box = [min(xs) * scale, min(ys) * scale, max(xs) * scale, max(ys) * scale]
    # It runs through the middles of the pixels at the edge.
    assert box == pytest.approx(mask.box, abs=2.5 + max(width, height) / 64)
    assert view_box(width, height, detail)[width < height] == detail.units


def corners(path: str) -> tuple[list[int], list[int]]:
    """Return the x and the y of the points of a closed path of one piece."""
    start, steps = path.removeprefix("M").removesuffix("z").split("l")
    x, y = map(int, re.findall(r"-?\d+", start))
    xs, ys = [x], [y]
    numbers = list(map(int, re.findall(r"-?\d+", steps)))
    for across, down in zip(numbers[::2], numbers[1::2], strict=True):
        xs.append(xs[-1] + across)
        ys.append(ys[-1] + down)
    return xs, ys

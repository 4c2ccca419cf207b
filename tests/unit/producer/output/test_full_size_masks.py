"""Masks at the size of their image are the pixels of the PNG, encoded as pycocotools encodes them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from producer.output.full_size_masks import full_size, runs
from producer.output.writers.mask_png_writer import index_map
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.registry.models import Model
from tagmill.tasks.masks import encode_masks

LABELS = ("background", "hat", "shoes")
SIZES = st.integers(1, 70)


@settings(max_examples=150)
@given(st.sampled_from(Geometry), SIZES, SIZES, SIZES, SIZES, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_a_mask_has_the_pixels_of_the_png(
    geometry: Geometry, width: int, height: int, mask_width: int, mask_height: int, seed: int, coarse: int
) -> None:
    spec = PreprocessSpec(mask_height, mask_width, geometry)
    model = Model(1, "0" * 64, "m", 1, "segment", LABELS, {"preprocess": spec.to_dict(), "background": "background"},
                  {}, "candidate")  # fmt: skip
    blocks = np.random.default_rng(seed).integers(0, 3, (mask_height, mask_width))
    index = blocks.repeat(coarse, 0).repeat(coarse, 1)[:mask_height, :mask_width].astype(np.uint8)
    masks = encode_masks(index, (0.5,) * 3, LABELS, "background", spec, width, height)
    for mask in masks:
        pixels = index_map(masks, model, width, height) == LABELS.index(mask.label)
        found = full_size(mask, model, width, height)
        assert found.rle == coco.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
        assert found.area == pixels.sum()
        rows, columns = np.nonzero(pixels)
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) if found.area else (0, 0, 0, 0)
        assert found.box == box
        by_row = np.zeros(width * height, dtype=bool)
        for start, end in zip(*runs(mask, model, width, height, by_column=False), strict=True):
            by_row[start:end] = True
        assert np.array_equal(by_row.reshape(height, width), pixels)


def test_a_mask_of_a_large_image_takes_no_pixels_of_it() -> None:
    spec = PreprocessSpec(64, 64)
    model = Model(1, "0" * 64, "m", 1, "segment", LABELS, {"preprocess": spec.to_dict()}, {}, "candidate")
    index = np.zeros((64, 64), dtype=np.uint8)
    index[16:48, 16:48] = 1
    (mask,) = encode_masks(index, (0.5,) * 3, LABELS, "background", spec, 40_000, 60_000)
    found = full_size(mask, model, 40_000, 60_000)
    assert (found.area, found.box) == (20_000 * 30_000, (10_000, 15_000, 20_000, 30_000))

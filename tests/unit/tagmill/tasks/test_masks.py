"""Masks: encoded at the model's resolution, and scaled back to the size of the image."""

import numpy as np
import pytest
from support.image_fixtures import square

from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.masks import decode_mask, encode_masks, figure_colors, png_palette, to_image_size

LABELS = ("background", "hat", "shoes")
SCORES = (0.5, 0.8, 0.9)


def test_a_mask_holds_its_share_and_its_box_in_the_images_pixels() -> None:
    (row,) = encode_masks(square(16, 0, 32, 32), SCORES, LABELS, "background", PreprocessSpec(64, 64), 640, 128)
    assert (row.label, row.score) == ("hat", 0.8)
    assert row.area_share == pytest.approx(16 * 32 / 64**2)
    assert row.box == (0.0, 32.0, 320.0, 64.0)


def test_the_background_is_not_a_mask() -> None:
    assert encode_masks(square(0, 0, 0, 0), SCORES, LABELS, "background", PreprocessSpec(64, 64), 64, 64) == ()


def test_a_mask_survives_encoding() -> None:
    index = np.random.default_rng(3).integers(0, 3, (48, 64)).astype(np.uint8)
    rows = encode_masks(index, SCORES, LABELS, "background", PreprocessSpec(48, 64), 640, 480)
    for row in rows:
        assert np.array_equal(decode_mask(row.rle, 48, 64), index == LABELS.index(row.label))


def test_the_white_border_of_a_letterbox_is_not_counted() -> None:
    spec = PreprocessSpec(64, 64, Geometry.LETTERBOX)  # an image of 100x50 fills rows 16 to 48
    (row,) = encode_masks(np.ones((64, 64), dtype=np.uint8), SCORES, LABELS, "background", spec, 100, 50)
    assert row.area_share == 1.0
    assert row.box == (0.0, 0.0, 100.0, 50.0)


def test_the_box_of_a_center_crop_is_in_the_middle() -> None:
    spec = PreprocessSpec(64, 64, Geometry.CENTER_CROP)
    (row,) = encode_masks(np.ones((64, 64), dtype=np.uint8), SCORES, LABELS, "background", spec, 192, 64)
    assert row.box == (64.0, 0.0, 128.0, 64.0)


def test_the_mask_of_a_crop_covers_the_middle_of_the_image_alone() -> None:
    spec = PreprocessSpec(64, 64, Geometry.CENTER_CROP, 0.5)
    (row,) = encode_masks(np.ones((64, 64), dtype=np.uint8), SCORES, LABELS, "background", spec, 120, 80)
    assert row.box == (40.0, 20.0, 80.0, 60.0)
    back = to_image_size(np.ones((64, 64), dtype=np.uint8), spec, 120, 80, fill=7)
    inside = np.zeros((80, 120), dtype=bool)
    inside[20:60, 40:80] = True
    assert (back[inside] == 1).all()
    assert (back[~inside] == 7).all()


@pytest.mark.parametrize("geometry", list(Geometry))
def test_an_index_map_is_scaled_to_the_size_of_the_image(geometry: Geometry) -> None:
    back = to_image_size(square(20, 20, 44, 44, 2), PreprocessSpec(64, 64, geometry), 300, 200)
    assert back.shape == (200, 300)
    assert back[100, 150] == 2
    assert set(np.unique(back)) == {0, 2}


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1000, 101), (3, 2)])
@pytest.mark.parametrize("geometry", list(Geometry))
def test_odd_sizes_are_filled_completely(size: tuple[int, int], geometry: Geometry) -> None:
    back = to_image_size(np.ones((64, 64), dtype=np.uint8), PreprocessSpec(64, 64, geometry), *size, fill=7)
    assert back.shape == (size[1], size[0])
    seen = set(np.unique(back).tolist())
    assert 1 in seen
    assert seen <= ({1, 7} if geometry is Geometry.CENTER_CROP else {1})


def test_a_palette_starts_with_black_and_has_a_color_per_label() -> None:
    colors = png_palette(4)
    assert colors[:3] == [0, 0, 0]
    assert len({tuple(colors[start : start + 3]) for start in range(0, 12, 3)}) == 4


def test_the_colors_of_figures_repeat_after_20_labels() -> None:
    colors = figure_colors()
    assert (colors.shape, colors.min() >= 0, colors.max() <= 1) == ((256, 3), True, True)
    assert len(np.unique(colors[1:21], axis=0)) == 20
    assert (colors[21:] == colors[1:-20]).all()
    assert (colors[1] * 255).round().tolist() == [0xF3, 0xC3, 0x00]

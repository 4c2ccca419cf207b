"""Masks: encoded at the model's resolution, given back in the picture's own pixels."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from producer.results.mask_png_writer import index_map, safe_folder, safe_name, write_masks
from producer.results.read import ImageResult, StoredMask
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.registry.models import Model
from tagmill.tasks.masks import decode_mask, encode_masks, to_picture

LABELS = ("background", "hat", "shoes")
SCORES = (0.5, 0.8, 0.9)


def square(top: int, left: int, bottom: int, right: int, value: int = 1, size: int = 64) -> np.ndarray:
    index = np.zeros((size, size), dtype=np.uint8)
    index[top:bottom, left:right] = value
    return index


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


def test_the_white_border_of_a_letterbox_counts_for_nothing() -> None:
    spec = PreprocessSpec(64, 64, Geometry.LETTERBOX)  # an image of 100x50 fills rows 16 to 48
    (row,) = encode_masks(np.ones((64, 64), dtype=np.uint8), SCORES, LABELS, "background", spec, 100, 50)
    assert row.area_share == 1.0
    assert row.box == (0.0, 0.0, 100.0, 50.0)


def test_a_center_crop_puts_its_box_into_the_middle() -> None:
    spec = PreprocessSpec(64, 64, Geometry.CENTER_CROP)
    (row,) = encode_masks(np.ones((64, 64), dtype=np.uint8), SCORES, LABELS, "background", spec, 192, 64)
    assert row.box == (64.0, 0.0, 128.0, 64.0)


@pytest.mark.parametrize("geometry", list(Geometry))
def test_an_index_map_comes_back_at_the_images_size(geometry: Geometry) -> None:
    back = to_picture(square(20, 20, 44, 44, 2), PreprocessSpec(64, 64, geometry), 300, 200)
    assert back.shape == (200, 300)
    assert back[100, 150] == 2
    assert set(np.unique(back)) == {0, 2}


def test_stored_masks_make_one_map_again() -> None:
    index = square(4, 4, 20, 20) + square(30, 30, 60, 60, 2)
    spec = PreprocessSpec(64, 64)
    rows = encode_masks(index, SCORES, LABELS, "background", spec, 64, 64)
    stored = [StoredMask(row.label, row.score, row.area_share, row.box, row.rle, row.height, row.width) for row in rows]
    details = {"preprocess": spec.to_dict(), "background": "background"}
    model = Model("0" * 64, "masks", 1, "segment", LABELS, details, {}, "candidate")
    assert np.array_equal(index_map(stored, model, 64, 64), index)


def test_a_plain_image_key_is_its_own_file_name() -> None:
    assert str(safe_name("shop/item-1.jpg")) == "shop/item-1.jpg.png"


KEYS = [
    *("../../etc/passwd", "/etc/passwd", "etc/passwd", "a:b", "a_b", "a\x00b"),
    *("..", ".", "", "x" * 500, "x" * 501, "a/./b", "\U0001d412" * 85, "é/" * 200 + "é"),
    *("a", "a.png/b", "a.PNG/b", "labels.json/x", "labels.json_/x", "a.png_/b"),
]


def test_an_image_key_never_leads_out_of_its_folder_and_never_shares_a_file() -> None:
    paths = [safe_name(key) for key in KEYS]
    assert len(set(paths)) == len(KEYS)
    for path in paths:
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert all(len(part.encode()) <= 255 for part in path.parts)
        assert not {*path.parents} & {*paths, PurePosixPath("labels.json")}


@pytest.mark.parametrize("name", ["shirts", "shirts@2", "Größe 3.1_b-2", "हिन्दी@12", "n" * 200])
def test_the_masks_of_a_model_lie_in_a_folder_of_its_name(name: str) -> None:
    assert safe_folder(name) == name


NAMES = [
    *(
        "../../escaped",
        "..",
        ".",
        "",
        "/etc",
        "/",
        "etc",
        "a/b",
        "a_b",
        "a\\b",
        "a@../../b",
        "a@b/../../../c",
        ".hidden",
    ),
    *("\0", "衣" * 200, "衣" * 199, "\ud800"),
]


def test_a_name_that_an_old_database_holds_never_leads_out_and_never_shares_a_folder() -> None:
    folders = [safe_folder(name) for name in NAMES]
    assert len(set(folders)) == len(NAMES)
    for folder in folders:
        assert folder == Path(folder).name
        assert len(folder.encode()) <= 255
        assert not folder.startswith(".")


def test_masks_of_a_model_whose_name_is_a_path_stay_in_the_folder_that_was_named(tmp_path: Path) -> None:
    index, name = square(4, 4, 20, 20), "../../escaped"
    (row,) = encode_masks(index, SCORES, LABELS, "background", PreprocessSpec(64, 64), 64, 64)
    stored = StoredMask(row.label, row.score, row.area_share, row.box, row.rle, row.height, row.width)
    details = {"preprocess": PreprocessSpec(64, 64).to_dict(), "background": "background"}
    model = Model("0" * 64, name, 1, "segment", LABELS, details, {}, "candidate")
    result = ImageResult(0, "shop/a.jpg", "/a.jpg", "tagged", None, None, "1" * 64, 64, 64, masks={name: [stored]})
    folder = tmp_path / "out" / "masks"
    assert write_masks([result], [(name, model)], folder) == 1
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    target = folder / safe_folder(name)
    assert written == [target / "labels.json", target / "shop" / "a.jpg.png"]
    assert np.array_equal(np.asarray(Image.open(written[1])), index)


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1000, 101), (3, 2)])
@pytest.mark.parametrize("geometry", list(Geometry))
def test_odd_sizes_come_back_whole(size: tuple[int, int], geometry: Geometry) -> None:
    back = to_picture(np.ones((64, 64), dtype=np.uint8), PreprocessSpec(64, 64, geometry), *size, fill=7)
    assert back.shape == (size[1], size[0])
    seen = set(np.unique(back).tolist())
    assert 1 in seen
    assert seen <= ({1, 7} if geometry is Geometry.CENTER_CROP else {1})

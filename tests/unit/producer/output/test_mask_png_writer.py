"""Masks as PNG files: their pixels, and safe names for files and folders."""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.image_fixtures import square

from producer.output.image_result import ImageResult
from producer.output.writers.mask_png_writer import index_map, safe_folder, write_masks
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import Model
from tagmill.tasks.masks import encode_masks, safe_name
from tagmill.text import normalize

LABELS = ("background", "hat", "shoes")


SCORES = (0.5, 0.8, 0.9)


def test_masks_of_all_labels_make_one_index_map() -> None:
    index = square(4, 4, 20, 20) + square(30, 30, 60, 60, 2)
    spec = PreprocessSpec(64, 64)
    rows = encode_masks(index, SCORES, LABELS, "background", spec, 64, 64)
    details = {"preprocess": spec.to_dict(), "background": "background"}
    model = Model(1, "0" * 64, "masks", 1, "segment", LABELS, details, {}, "candidate")
    assert np.array_equal(index_map(rows, model, 64, 64), index)


def test_a_plain_image_key_is_its_own_file_name() -> None:
    assert str(safe_name("shop/item-1.jpg")) == "shop/item-1.jpg.png"


KEYS = [
    *("../../etc/passwd", "/etc/passwd", "etc/passwd", "a:b", "a_b", "a\x00b"),
    *("..", ".", "", "x" * 500, "x" * 501, "a/./b", "\U0001d412" * 85, "é/" * 200 + "é"),
    *("a", "a.png/b", "a.PNG/b", "labels.json/x", "labels.json_/x", "a.png_/b"),
]


def test_a_key_never_shares_a_file_with_one_that_ends_in_its_digits() -> None:
    assert safe_name(str(safe_name("a:b").with_suffix(""))) != safe_name("a:b")


def test_keys_that_differ_in_case_never_share_a_file_on_a_disk_that_ignores_it() -> None:
    keys = ["shop/a.jpg", "shop/A.jpg", "SHOP/a.jpg", "shop/a.JPG", "stra\u00dfe", "STRASSE", "strasse"]
    paths = [str(safe_name(key, ignores_case=True)) for key in keys]
    assert len({path.casefold() for path in paths}) == len(keys)
    assert paths[0] == "shop/a.jpg.png"


@given(st.text(min_size=1, max_size=40).map(normalize))
def test_any_key_gives_a_name_that_a_disk_takes(key: str) -> None:
    path = safe_name(key)
    assert not path.is_absolute()
    assert not {"..", "."} & set(path.parts)
    assert re.fullmatch(r"[^\0/:*?\"<>|\\]+(?:/[^\0/:*?\"<>|\\]+)*\.png", str(path))


def test_an_image_key_never_leads_out_of_its_folder_and_never_shares_a_file() -> None:
    paths = [safe_name(key) for key in KEYS]
    assert len(set(paths)) == len(KEYS)
    for path in paths:
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert all(len(part.encode()) <= 255 for part in path.parts)
        assert not {*path.parents} & {*paths, PurePosixPath("labels.json")}


@pytest.mark.parametrize("name", ["shirts", "shirts@2", "Größe 3.1_b-2", "हिन्दी@12", "n" * 200])
def test_the_masks_of_a_model_are_in_a_folder_with_its_name(name: str) -> None:
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


def test_a_model_name_of_an_old_database_never_leads_out_and_never_shares_a_folder() -> None:
    folders = [safe_folder(name) for name in NAMES]
    assert len(set(folders)) == len(NAMES)
    for folder in folders:
        assert folder == Path(folder).name
        assert len(folder.encode()) <= 255
        assert not folder.startswith(".")


def test_masks_of_a_model_whose_name_is_a_path_stay_in_the_output_folder(tmp_path: Path) -> None:
    index, name = square(4, 4, 20, 20), "../../escaped"
    (row,) = encode_masks(index, SCORES, LABELS, "background", PreprocessSpec(64, 64), 64, 64)
    details = {"preprocess": PreprocessSpec(64, 64).to_dict(), "background": "background"}
    model = Model(1, "0" * 64, name, 1, "segment", LABELS, details, {}, "candidate")
    result = ImageResult(0, "shop/a.jpg", "/a.jpg", "tagged", None, None, "1" * 64, 64, 64, masks={name: [row]})
    folder = tmp_path / "out" / "masks"
    assert write_masks([result], [(name, model)], folder) == 1
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    target = folder / safe_folder(name)
    assert written == [target / "labels.json", target / "shop" / "a.jpg.png"]
    assert np.array_equal(np.asarray(Image.open(written[1])), index)

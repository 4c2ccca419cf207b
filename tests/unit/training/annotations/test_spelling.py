"""Labels and file names that look the same are the same, in every format of labeled images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import write_image

from training.annotations.open import read_labeled_images, read_masked_images

NFC, NFD = "caf\u00e9", "cafe\u0301"


def write_source(folder: Path, kind: str, label: str, name: str) -> Path:
    """Write a file that gives an image a label."""
    path = folder / f"labels.{'csv' if kind == 'csv' else 'json'}"
    if kind == "csv":
        path.write_text(f" uri ,\u00a0label\n{name} ,\t{label}\u3000\n", encoding="utf-8")
    elif kind == "coco":
        content = {
            "images": [{"id": 1, "file_name": name, "width": 60, "height": 40}],
            "categories": [{"id": 1, "name": f"{label} "}],
            "annotations": [{"image_id": 1, "category_id": 1}],
        }
        path.write_text(json.dumps(content))
    else:
        result = [{"type": "choices", "value": {"choices": [f" {label}"]}}]
        path.write_text(json.dumps([{"data": {"image": name}, "annotations": [{"result": result}]}]))
    return path


@pytest.mark.parametrize("kind", ["csv", "coco", "label-studio"])
@pytest.mark.parametrize("on_disk", [NFC, NFD, f" {NFC}"])
@pytest.mark.parametrize("written", [NFC, NFD])
def test_a_label_is_normalized_and_its_file_found(tmp_path: Path, kind: str, on_disk: str, written: str) -> None:
    write_image(tmp_path / "images" / f"{on_disk}.png", "red")
    (found,) = read_labeled_images(write_source(tmp_path, kind, written, f"{written}.png")).images
    assert found.labels == (NFC,)
    assert found.image.samefile(tmp_path / "images" / f"{on_disk}.png")


def test_two_category_folders_that_look_the_same_are_one_category(tmp_path: Path) -> None:
    for number, name in enumerate((NFC, NFD, f" {NFC}")):
        write_image(tmp_path / name / f"{number}.png", "red")
    found = read_labeled_images(tmp_path)
    assert {labeled.labels for labeled in found.images} == {(NFC,)}
    assert (len(found.images), found.empty) == (3, ())


def test_masks_and_labels_of_another_spelling_are_found(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / f"{NFD}.png", "red", size=(4, 2))
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((2, 4), dtype=np.uint8)).save(tmp_path / "masks" / f"{NFC}.png")
    (tmp_path / "labels.json").write_text(json.dumps(["background", NFD]))
    (tmp_path / "groups.json").write_text(json.dumps({"rest": ["background"], f"{NFD}s": [NFC]}))
    found = read_masked_images(tmp_path)
    assert (found.stored, found.labels, len(found.examples)) == (("background", NFC), ("rest", f"{NFC}s"), 1)


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    write_image(tmp_path / "hat" / "a.png", "red")
    for name in ("b.jxl", "c.jxl", "notes.txt", "._a.png"):
        (tmp_path / "hat" / name).write_bytes(b"x")
    assert read_labeled_images(tmp_path).notes == (
        f"{tmp_path}: skipped 2 .jxl files, images that are not read: b.jxl, c.jxl",
        f"{tmp_path}: skipped 1 .txt file: notes.txt",
        f"{tmp_path}: skipped 1 hidden file: ._a.png",
    )

"""COCO documents of results, as pycocotools and Tagmill's own reader of annotations read them."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from support.image_fixtures import square, write_image
from support.results import DETAILS, EXTRA, FAILED, MASKS, MODELS, SPEC, TAGGED

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import Named, ResultSet
from producer.output.writers import coco_writer
from producer.output.writers.base import WriteOptions
from producer.output.writers.coco_writer import write_coco
from producer.output.writers.mask_png_writer import index_map
from tagmill.registry.models import Model
from tagmill.tasks.masks import encode_masks
from training.annotations.open import read_labeled_images

PARTS = Model(3, "3" * 64, "parts", 1, "segment", ("hat", "background", "shoe"), DETAILS, {}, "candidate")
SIZES = ((60, 90), (300, 200), (7, 5), (64, 64), (1, 1))


def document(path: Path, images: Sequence[ImageResult], models: Named = MODELS, **options: Any) -> dict[str, Any]:
    about = ResultSet(models, lambda: iter(images), runs=[7], find_columns=lambda: EXTRA)
    with path.open("wb") as out:
        write_coco(about, about, out, WriteOptions(**options))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def with_masks(at: int, width: int, height: int) -> ImageResult:
    """Return an image of this size with masks of two labels."""
    index = np.ones((64, 64), dtype=np.uint8) + square(5 + at, 3, 30, 33) - square(20, 40, 60, 50)
    masks = encode_masks(index, (0.5, 0.5, 0.75), PARTS.labels, "background", SPEC, width, height)
    return replace(
        TAGGED, image_key=f"k{at}", width=width, height=height, masks={"parts": list(masks)}, models={"parts": PARTS}
    )


def test_pycocotools_decodes_each_mask_to_the_pixels_of_the_png(tmp_path: Path) -> None:
    images = [with_masks(at, *size) for at, size in enumerate(SIZES)]
    path = tmp_path / "coco.json"
    document(path, images, (("parts", PARTS),))
    with redirect_stdout(io.StringIO()):
        coco = COCO(path)
    seen = 0
    for number, found in enumerate(images, 1):
        assert found.width is not None
        assert found.height is not None
        png = index_map(found.masks["parts"], PARTS, found.width, found.height)
        annotations = {one["category_id"]: one for one in coco.loadAnns(coco.getAnnIds(imgIds=[number]))}
        for category, label in ((1, "hat"), (2, "shoe")):
            pixels = png == PARTS.labels.index(label)
            assert (category in annotations) == pixels.any()
            if one := annotations.get(category):
                assert np.array_equal(coco.annToMask(one).astype(bool), pixels)
                rows, columns = np.nonzero(pixels)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert (one["bbox"], one["area"], one["iscrowd"]) == (box, pixels.sum(), 0)
                assert one["score"] == {"hat": 0.5, "shoe": 0.75}[label]
                seen += 1
    assert seen >= 2 * len(images) - 3


def test_images_have_labels_and_columns_and_failed_ones_are_left_out(tmp_path: Path) -> None:
    found = document(tmp_path / "coco.json", [FAILED, TAGGED])
    assert found["categories"] == [{"id": 1, "name": "hat", "supercategory": "masks"}]
    (image,) = found["images"]
    assert (image["id"], image["file_name"], image["width"], image["height"]) == (1, "/a.jpg", 60, 90)
    assert (image["image_key"], image["run"], image["sha256"]) == ("a", 7, TAGGED.sha256)
    assert image["labels"]["shirts"][0] == {"label": "red", "score": 0.75}
    assert image["extra"]["brand"] == "\uc0c1\uc810"
    assert [one["image_id"] for one in found["annotations"]] == [1]
    assert document(tmp_path / "none.json", [])["images"] == []


@pytest.mark.parametrize(
    ("uri", "prefix", "place"),
    [
        ("/srv/a b.jpg", None, "/srv/a b.jpg"),
        ("/srv/a b.jpg", ("/srv/", ""), "a b.jpg"),
        ("/srv/a b/\uac00.jpg", ("/srv/", "/data/local-files/?d="), "/data/local-files/?d=a%20b/%EA%B0%80.jpg"),
        ("s3://shop/a b.jpg", ("s3://shop/", "https://cdn.example/"), "https://cdn.example/a b.jpg"),
        ("/other/a.jpg", ("/srv/", "x"), "/other/a.jpg"),
    ],
)
def test_the_location_of_an_image_is_that_of_the_reader(
    tmp_path: Path, uri: str, prefix: tuple[str, str] | None, place: str
) -> None:
    (image,) = document(tmp_path / "coco.json", [replace(TAGGED, uri=uri)], image_prefix=prefix)["images"]
    assert image["file_name"] == place
    assert image.get("coco_url", place) == place
    assert ("coco_url" in image) == ("://" in place)


def test_many_annotations_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_writer, "_IN_MEMORY", 1000)
    found = document(tmp_path / "coco.json", [TAGGED] * 50)
    assert [one["id"] for one in found["annotations"]] == list(range(1, 51))
    assert [one["image_id"] for one in found["annotations"]] == list(range(1, 51))


def test_the_masks_are_labeled_images_for_training(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    write_image(image, "red", size=(60, 90))
    document(tmp_path / "coco.json", [replace(TAGGED, uri=str(image))], (("masks", MASKS),))
    assert [one.labels for one in read_labeled_images(tmp_path / "coco.json").images] == [("hat",)]

"""Datasets of FiftyOne: the shape that its readers document, one folder per model."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.results import EXTRA, FAILED, MASKS, MODELS, SHIRTS, TAGGED

from producer.output.destinations.write import write_results
from producer.output.formats import WRITERS, Format
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import Named, ResultSet
from producer.output.writers.base import WriteOptions

BRAND = {"image_key": "a", "run": 7, "brand": "\uc0c1\uc810", "price": 9.5, "label": "=1"}


def datasets(folder: Path, images: Sequence[ImageResult], models: Named = MODELS) -> dict[str, Any]:
    """Write datasets and return the labels.json of each by the path of its folder."""
    about = ResultSet(models, lambda: iter(images), runs=[7], find_columns=lambda: EXTRA)
    options = WriteOptions(image_prefix=("/", "/mnt/"))
    write_results(about, WRITERS[Format.FIFTYONE], str(folder), options)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"labels.json"}
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in files}


def test_a_classifier_has_a_classification_and_a_segmenter_a_coco_dataset(tmp_path: Path) -> None:
    found = datasets(tmp_path / "new", [TAGGED, FAILED, replace(TAGGED, models={"masks": MASKS}, labels={}, masks={})])
    shirts, masks = found.pop("shirts"), found.pop("masks")
    assert found == {}
    target = {"label": "red", "confidence": 0.75, "attributes": BRAND}
    assert shirts == {"classes": ["red", "blue"], "labels": {"/mnt/a.jpg": target}}
    assert [one["file_name"] for one in masks["images"]] == ["/mnt/a.jpg"] * 2
    assert [one["category_id"] for one in masks["annotations"]] == [1]


def test_an_image_of_a_model_with_several_labels_has_a_list(tmp_path: Path) -> None:
    many = replace(SHIRTS, task="multilabel")
    images = [
        replace(TAGGED, models={"shirts": many}),
        replace(TAGGED, uri="/n.jpg", models={"shirts": many}, labels={}),
    ]
    labels = datasets(tmp_path, images, (("shirts", many),))["shirts"]["labels"]
    assert [one["label"] for one in labels["/mnt/a.jpg"]] == ["red", "blue"]
    assert labels["/mnt/n.jpg"] == []
    none = [replace(TAGGED, models={"shirts": SHIRTS}, labels={})]
    assert datasets(tmp_path, none, (("shirts", SHIRTS),))["shirts"]["labels"] == {"/mnt/a.jpg": None}

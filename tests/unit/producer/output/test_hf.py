"""Datasets for Hugging Face: Parquet files with features, and a README.md that names the configurations."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pycocotools import mask as coco
from support.results import EXTRA, FAILED, MASK, MASKS, MODELS, SHIRTS, TAGGED

from producer.output.destinations.write import write_results
from producer.output.formats import WRITERS, Format
from producer.output.selection.result_set import ResultSet
from producer.output.writers import hf_writer
from producer.output.writers.base import WriteOptions
from producer.output.writers.mask_png_writer import index_map

IMAGES = [TAGGED, FAILED, replace(TAGGED, image_key="c", labels={}, masks={}, extra=None)]


def written(folder: Path) -> Path:
    about = ResultSet(MODELS, lambda: iter(IMAGES), runs=[7], find_columns=lambda: EXTRA)
    assert write_results(about, WRITERS[Format.HF], str(folder), WriteOptions()) == 4
    return folder


def test_each_model_is_a_configuration(tmp_path: Path) -> None:
    head, configurations, _ = (written(tmp_path) / "README.md").read_text().split("---\n")
    assert head == ""
    found = yaml.safe_load(configurations)["configs"]
    assert [one["config_name"] for one in found] == ["shirts", "masks"]
    for one in found:
        (file,) = tmp_path.glob(one["data_files"])
        assert file.parent.name == one["config_name"]


def test_images_are_named_and_labels_are_classes(tmp_path: Path) -> None:
    table = pq.read_table(written(tmp_path) / "data" / "shirts" / "train-00000.parquet")
    first, second = table.to_pylist()
    assert first["image"] == {"bytes": None, "path": "/a.jpg"}
    assert (first["image_key"], first["label"], first["score"]) == ("a", SHIRTS.labels.index("red"), 0.75)
    assert (first["brand"], first["price"], first["extra.label"]) == ("\uc0c1\uc810", 9.5, "=1")
    assert (second["image_key"], second["label"], second["labels"], second["brand"]) == ("c", None, [], None)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert set(features) == set(table.schema.names)
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": ["red", "blue"], "_type": "ClassLabel"}
    assert features["labels"][0]["score"] == features["price"] == {"dtype": "float64", "_type": "Value"}


def test_masks_are_objects_at_the_size_of_the_image(tmp_path: Path) -> None:
    table = pq.read_table(written(tmp_path) / "data" / "masks" / "train-00000.parquet")
    first, second = (row["objects"] for row in table.to_pylist())
    pixels = index_map([MASK], MASKS, 60, 90) == 1
    assert np.array_equal(coco.decode(first["segmentation"][0]).astype(bool), pixels)
    assert (first["area"], first["category"], first["score"]) == ([pixels.sum()], [1], [0.75])
    assert first["bbox"] == [list(map(int, coco.toBbox(first["segmentation"][0])))]
    assert set(map(len, second.values())) == {0}


def test_many_images_are_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_writer, "_FILE", 1)
    names = sorted(str(path.relative_to(tmp_path)) for path in written(tmp_path).rglob("*.parquet"))
    assert names == [f"data/{model}/train-0000{at}.parquet" for model in ("masks", "shirts") for at in range(2)]
    monkeypatch.undo()
    assert len(list(written(tmp_path).rglob("*.parquet"))) == 2

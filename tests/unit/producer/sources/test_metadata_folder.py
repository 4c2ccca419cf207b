"""Folders of images with a metadata file, as Hugging Face's data sets have it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import image_keys, make_files

from producer.sources.open import check, open_sources
from producer.sources.options import ReadOptions


def write_metadata(folder: Path, kind: str, name: str = "file_name") -> None:
    """Write a metadata file of this kind for a.jpg and b.jpg."""
    rows = [{name: "a.jpg", "text": "A"}, {name: "b.jpg", "text": "B"}]
    make_files(folder, "a.jpg", "b.jpg", "unlisted.jpg")
    path = folder / f"metadata.{kind}"
    if kind == "csv":
        path.write_text("".join(f"{row[name]},{row['text']}\n" for row in [{name: name, "text": "text"}, *rows]))
    elif kind == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_is_read_by_its_metadata_with_the_keys_of_a_folder(tmp_path: Path, kind: str) -> None:
    write_metadata(tmp_path / "shop", kind)
    notes: list[str] = []
    # The format of other manifests does not matter here.
    found = list(open_sources([str(tmp_path / "shop")], options=ReadOptions(format="tsv", tell=notes.append)))
    assert [(entry.image_key, entry.uri, entry.extra) for entry in found] == [
        (name, str(tmp_path.resolve() / "shop" / name), f'{{"text":"{text}"}}')
        for name, text in [("a.jpg", "A"), ("b.jpg", "B")]
    ]
    assert notes == [f"{tmp_path}/shop: takes the images that metadata.{kind} names"]


def test_splits_are_folders_with_metadata_and_part_of_the_keys(tmp_path: Path) -> None:
    write_metadata(tmp_path / "train", "jsonl")
    write_metadata(tmp_path / "test", "csv")
    found = list(open_sources([str(tmp_path)]))
    assert [entry.image_key for entry in found] == ["test/a.jpg", "test/b.jpg", "train/a.jpg", "train/b.jpg"]
    assert found[2].uri == str(tmp_path.resolve() / "train" / "a.jpg")


def test_several_columns_of_file_names_are_several_images(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("front_file_name,back_file_name,sku\n1.jpg,2.jpg,s\n3.jpg,,t\n")
    assert image_keys(tmp_path) == ["1.jpg", "2.jpg", "3.jpg"]


def test_a_file_that_is_only_named_like_metadata_does_not_hide_the_images(tmp_path: Path) -> None:
    write_metadata(tmp_path, "csv", name="picture")
    assert image_keys(tmp_path) == ["a.jpg", "b.jpg", "unlisted.jpg"]


def test_a_problem_names_the_metadata_file_and_its_line(tmp_path: Path) -> None:
    write_metadata(tmp_path / "train", "csv")
    with (tmp_path / "train" / "metadata.csv").open("a") as file:
        file.write(",\x00\na.jpg,twice\n")
    (tmp_path / "metadata.txt").touch()
    report = check([str(tmp_path)])
    assert [str(problem) for problem in report.problems] == [
        f"{tmp_path}/train/metadata.csv:4: contains a NUL byte; a manifest is text without it",
        f"{tmp_path}/train/metadata.csv:5: image_key 'train/a.jpg' is already in {tmp_path}/train/metadata.csv:2",
    ]

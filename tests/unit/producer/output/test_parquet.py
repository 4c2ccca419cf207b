"""Parquet files of results, as DuckDB, Polars and pyarrow read them."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco
from support.results import EXTRA, FAILED, MASK, MASKS, MODELS, SHIRTS, TAGGED

from producer.output.destinations.write import write_results
from producer.output.extra_columns import ExtraColumn, Kind
from producer.output.formats import WRITERS, FileFormat, Format
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers import parquet_writer
from producer.output.writers.base import WriteOptions
from producer.output.writers.mask_png_writer import index_map

PARQUET = WRITERS[Format.PARQUET]


def result_set(images: Sequence[ImageResult], columns: tuple[ExtraColumn, ...] = EXTRA) -> ResultSet:
    return ResultSet(MODELS, lambda: iter(images), runs=[7], find_columns=lambda: columns)


def write(images: Sequence[ImageResult], columns: tuple[ExtraColumn, ...] = EXTRA) -> pq.ParquetFile:
    about, out = result_set(images, columns), io.BytesIO()
    assert isinstance(PARQUET, FileFormat)
    assert PARQUET.write(about, about, out, WriteOptions()) == len(images)
    return pq.ParquetFile(io.BytesIO(out.getvalue()))


def many(count: int) -> Iterator[ImageResult]:
    for at in range(count):
        yield (
            replace(TAGGED, position=at, image_key=f"key-{at:06}", masks={})
            if at % 5
            else replace(FAILED, position=at, image_key=f"key-{at:06}")
        )


def test_an_image_has_one_row_per_model_and_a_failed_one_has_one() -> None:
    file = write([TAGGED, FAILED])
    shirts, masks, failed = file.read().to_pylist()
    assert (shirts["image_key"], shirts["run"], shirts["status"], shirts["width"]) == ("a", 7, "tagged", 60)
    assert (shirts["model"], shirts["model_version"], shirts["label"], shirts["score"]) == ("shirts", 3, "red", 0.75)
    assert shirts["labels"] == [{"label": "red", "score": 0.75}, {"label": "blue", "score": 0.25}]
    assert (shirts["masks"], masks["labels"], masks["label"], masks["score"]) == ([], [], None, None)
    (mask,) = masks["masks"]
    pixels = index_map([MASK], MASKS, 60, 90) == 1
    assert np.array_equal(coco.decode(mask["rle"]).astype(bool), pixels)
    assert (mask["label"], mask["score"], mask["area_share"]) == ("hat", 0.75, 0.125)
    assert mask["bbox"] == list(map(int, coco.toBbox(mask["rle"])))
    assert (shirts["brand"], shirts["price"], shirts["label"]) == ("\uc0c1\uc810", 9.5, "red")
    assert shirts["extra.label"] == masks["extra.label"] == "=1"
    assert (failed["status"], failed["error_code"], failed["error_detail"]) == ("failed", "not_found", "-no file")
    assert [failed[name] for name in ("model", "label", "sha256", "brand", "price")] == [None] * 5
    metadata = file.schema_arrow.metadata
    assert metadata[b"tagmill_run"] == b"7"
    assert json.loads(metadata[b"tagmill_model_sha256"]) == {"shirts@3": SHIRTS.sha256, "masks@1": MASKS.sha256}


def test_columns_of_the_manifest_have_types() -> None:
    columns = tuple(map(ExtraColumn, ("b", "i", "n", "t"), (Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER, Kind.TEXT)))
    images = [
        replace(TAGGED, extra='{"b":true,"i":7,"n":1,"t":[1,"\uc0c1"]}'),
        replace(TAGGED, extra='{"n":2.5,"t":1}'),
    ]
    file = write([replace(one, models={}) for one in images], columns)
    assert [str(field.type) for field in file.schema_arrow][-4:] == ["bool", "int64", "double", "string"]
    found = [[row[name] for name in "bint"] for row in file.read(columns=list("bint")).to_pylist()]
    assert found == [[True, 7, 1.0, '[1,"\uc0c1"]'], [None, None, 2.5, "1"]]


def test_row_groups_are_bounded_compressed_and_have_dictionaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_writer, "GROUP_ROWS", 9000)
    file = write(list(many(12_000)))
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    assert [group.num_rows <= 9000 for group in groups] == [True] * len(groups)
    assert sum(group.num_rows for group in groups) == 12_000 * 4 // 5 * 2 + 12_000 // 5
    columns = {(column := groups[0].column(at)).path_in_schema: column for at in range(groups[0].num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    for name in ("status", "label", "labels.list.element.label"):
        assert "RLE_DICTIONARY" in columns[name].encodings
    assert "RLE_DICTIONARY" not in columns["image_key"].encodings


def test_results_without_images_are_a_file_with_the_columns() -> None:
    file = write([])
    assert file.metadata.num_rows == 0
    assert file.schema_arrow.names[-3:] == ["brand", "price", "extra.label"]


def test_duckdb_and_polars_read_the_folder_of_shards(tmp_path: Path) -> None:
    folder = tmp_path / "tags"
    images = list(many(1000))
    assert write_results(result_set(images), PARQUET, f"{folder}/", WriteOptions(), 300) == 1000
    assert sorted(path.name for path in folder.iterdir()) == [f"part-{at:05}.parquet" for at in range(4)]
    query = f"SELECT label, count(*) FROM '{folder}/*.parquet' WHERE score >= 0.5 GROUP BY label"
    assert duckdb.sql(query).fetchall() == [("red", 800)]
    unnested = f"SELECT DISTINCT image_key, unnest(labels).label AS l FROM '{folder}/*.parquet' ORDER BY 1, 2 LIMIT 2"
    assert duckdb.sql(unnested).fetchall() == [("key-000001", "blue"), ("key-000001", "red")]
    frame = polars.scan_parquet(folder).filter(polars.col("status") == "failed").collect()
    assert frame["image_key"].to_list() == [one.image_key for one in images if one.status == "failed"]
    keys = polars.read_parquet(folder)["image_key"].to_list()
    assert keys == list(chain.from_iterable([one.image_key] * max(1, len(one.models)) for one in images))

"""Write results as Parquet, which DuckDB, Polars, Spark and warehouses read, one file or a folder of shards."""

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.arrow_batches import arrow_batches, schema_of
from producer.output.writers.base import WriteOptions

#: a row group has at most so many rows, and about so many bytes before it is compressed
GROUP_ROWS, GROUP_BYTES = 32_768, 64 * 2**20
#: columns with few different values
_DICTIONARIES = (
    *("run", "status", "error_code", "model", "model_version", "label"),
    *("labels.list.element.label", "masks.list.element.label"),
)


def write_parquet(results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, _options: WriteOptions) -> int:
    """Write one row per image and model, and one per image that no model tagged. Return the number of images."""
    count = 0

    def counted() -> Iterator[ImageResult]:
        nonlocal count
        for found in results:
            count += 1
            yield found

    schema = schema_of(about.extra_columns).with_metadata(_metadata(about))
    with pq.ParquetWriter(out, schema, compression="zstd", use_dictionary=list(_DICTIONARIES)) as writer:
        for group in _groups(arrow_batches(counted(), about.extra_columns)):
            writer.write_table(group, row_group_size=GROUP_ROWS)
    return count


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join batches to row groups."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if waiting and (rows + batch.num_rows > GROUP_ROWS or size + batch.nbytes > GROUP_BYTES):
            yield pa.Table.from_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if waiting:
        yield pa.Table.from_batches(waiting)


def _metadata(about: ResultSet) -> dict[str, str]:
    """Return what the file says of itself: its runs, and the sha256 of each model's bundle."""
    runs = ",".join(map(str, about.runs)) or "catalog"
    return {"tagmill_run": runs, "tagmill_model_sha256": json.dumps({one.title: one.sha256 for _, one in about.models})}

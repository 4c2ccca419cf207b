"""The formats that `tagmill results --format` writes, each with its writer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from producer.results.image_result import ImageResult
from producer.results.result_set import ResultSet
from producer.results.writers.base import FileWriter, WriteOptions
from producer.results.writers.csv_writer import write_csv
from producer.results.writers.jsonl_writer import write_jsonl
from tagmill.errors import ConfigurationError


class Format(StrEnum):
    """What `tagmill results --format` writes."""

    #: one row per image: for each classifier its best label and score, for each segmenter the area shares of its masks
    CSV = "csv"
    #: one object per image, with everything: all labels, masks as COCO RLE
    JSONL = "jsonl"
    #: one row per image and model, with everything; for DuckDB, Polars, Spark and warehouses
    PARQUET = "parquet"


def _write_parquet(results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions) -> int:
    try:
        from producer.results.writers.parquet_writer import write_parquet  # pyarrow is an extra, and large
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ConfigurationError("--format parquet needs pyarrow; run: pip install 'tagmill[parquet]'") from error
    return write_parquet(results, about, out, options)


@dataclass(frozen=True)
class FileFormat:
    """A format of one file, which can be written in shards."""

    write: FileWriter
    #: of its files
    suffix: str
    #: whether people can read it on a terminal
    is_text: bool = True
    #: whether it has a place for images that failed
    shows_failures: bool = False


#: A new format is a module, a value above and a line here.
WRITERS: Mapping[Format, FileFormat] = {
    Format.CSV: FileFormat(write_csv, ".csv", shows_failures=True),
    Format.JSONL: FileFormat(write_jsonl, ".jsonl", shows_failures=True),
    Format.PARQUET: FileFormat(_write_parquet, ".parquet", is_text=False, shows_failures=True),
}

"""The formats that `tagmill results --format` writes, each with its writer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from producer.needs_pyarrow import needs_pyarrow
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import FileWriter, Folder, FolderWriter, WriteOptions
from producer.output.writers.coco_writer import write_coco
from producer.output.writers.csv_writer import write_csv
from producer.output.writers.fiftyone_writer import write_fiftyone
from producer.output.writers.jsonl_writer import write_jsonl
from producer.output.writers.label_studio.label_studio_writer import labeling_configuration, write_label_studio


class Format(StrEnum):
    """What `tagmill results --format` writes."""

    #: one row per image: for each classifier its best label and score, for each segmenter the area shares of its masks
    CSV = "csv"
    #: one object per image, with everything: all labels, masks as COCO RLE
    JSONL = "jsonl"
    #: one row per image and model, with everything; for DuckDB, Polars, Spark and warehouses
    PARQUET = "parquet"
    #: one document, masks as annotations
    COCO = "coco"
    #: tasks with predictions, for people to review, and the configuration of their project
    LABEL_STUDIO = "label-studio"
    #: a folder per model
    FIFTYONE = "fiftyone"
    #: a folder that `datasets.load_dataset` reads, with one configuration per model
    HF = "hf"


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
    #: a further file: its suffix, and what is in it
    beside: tuple[str, Callable[[ResultSet, WriteOptions], bytes]] | None = None


@dataclass(frozen=True)
class FolderFormat:
    """A format of several files."""

    write: FolderWriter
    shows_failures: bool = False


def _write_parquet(results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions) -> int:
    with needs_pyarrow(f"--format {Format.PARQUET}"):
        from producer.output.writers.parquet_writer import write_parquet
    return write_parquet(results, about, out, options)


def _write_hf(about: ResultSet, folder: Folder, options: WriteOptions) -> int:
    with needs_pyarrow(f"--format {Format.HF}"):
        from producer.output.writers.hf_writer import write_hf
    return write_hf(about, folder, options)


#: A new format is a module, a value above and a line here.
WRITERS: Mapping[Format, FileFormat | FolderFormat] = {
    Format.CSV: FileFormat(write_csv, ".csv", shows_failures=True),
    Format.JSONL: FileFormat(write_jsonl, ".jsonl", shows_failures=True),
    Format.PARQUET: FileFormat(_write_parquet, ".parquet", is_text=False, shows_failures=True),
    Format.COCO: FileFormat(write_coco, ".json"),
    Format.LABEL_STUDIO: FileFormat(write_label_studio, ".json", beside=(".xml", labeling_configuration)),
    Format.FIFTYONE: FolderFormat(write_fiftyone),
    Format.HF: FolderFormat(_write_hf),
}

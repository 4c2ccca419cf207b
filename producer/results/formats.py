"""The formats that `tagmill results --format` writes, each with its writer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from producer.results.writers.base import FileWriter
from producer.results.writers.csv_writer import write_csv
from producer.results.writers.jsonl_writer import write_jsonl


class Format(StrEnum):
    """What `tagmill results --format` writes."""

    #: one row per image: for each classifier its best label and score, for each segmenter the area shares of its masks
    CSV = "csv"
    #: one object per image, with everything: all labels, masks as COCO RLE
    JSONL = "jsonl"


@dataclass(frozen=True)
class FileFormat:
    """A format of one file, which can be written in shards."""

    write: FileWriter
    #: of its files
    suffix: str
    #: whether it has a place for images that failed
    shows_failures: bool = False


#: A new format is a module, a value above and a line here.
WRITERS: Mapping[Format, FileFormat] = {
    Format.CSV: FileFormat(write_csv, ".csv", shows_failures=True),
    Format.JSONL: FileFormat(write_jsonl, ".jsonl", shows_failures=True),
}

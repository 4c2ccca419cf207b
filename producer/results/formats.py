"""The formats that `tagmill results --format` writes, each with its writer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TextIO

from producer.results.csv_writer import write_csv
from producer.results.jsonl_writer import write_jsonl
from producer.results.read import ImageResult
from tagmill.registry.models import Model

#: Writes results to a file and returns how many. Takes the models of the run with the names that they have in it.
Writer = Callable[[Iterable[ImageResult], Sequence[tuple[str, Model]], TextIO], int]


class Format(StrEnum):
    """What `tagmill results --format` writes."""

    #: one row per image: for each classifier its best label and score, for each segmenter the area shares of its masks
    CSV = "csv"
    #: one object per image, with everything: all labels, masks as COCO RLE
    JSONL = "jsonl"


#: A new format is a module, a value above and a line here.
WRITERS: Mapping[Format, Writer] = {
    Format.CSV: write_csv,
    Format.JSONL: write_jsonl,
}

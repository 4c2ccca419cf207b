"""Write results as CSV or JSON lines."""

import csv
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TextIO

from producer.results.read import ImageResult
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named


class Format(StrEnum):
    """What `tagmill results --format` writes."""

    #: one row an image: for each classifier its best label and score, for each segmenter its masks' area shares
    CSV = "csv"
    #: one object an image, with everything: all labels, masks as COCO RLE
    JSONL = "jsonl"


def write_csv(results: Iterable[ImageResult], names: Sequence[tuple[str, Model]], out: TextIO) -> int:
    """Write one row an image; return how many. `names` are the models with the names their columns get."""
    writer = csv.writer(out)
    writer.writerow([*_FACTS, *(column for name, model in names for column in _columns(name, model))])
    count = 0
    for result in results:
        facts = [getattr(result, fact) for fact in _FACTS]
        writer.writerow([*facts, *(value for name, model in names for value in _values(result, name, model))])
        count += 1
    return count


_FACTS = ("image_key", "uri", "status", "error_code", "sha256", "width", "height")


def _columns(name: str, model: Model) -> tuple[str, ...]:
    return task_named(model.task).columns(name)


def _values(result: ImageResult, name: str, model: Model) -> tuple[object, ...]:
    return task_named(model.task).values(result.labels.get(name, ()), result.masks.get(name, ()))

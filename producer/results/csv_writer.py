"""Write results as CSV, one row per image. Cells hold no formulas, whatever suppliers wrote into keys and URLs."""

import csv
from collections.abc import Iterable, Sequence
from typing import TextIO

from producer.results.read import ImageResult
from tagmill.csv_cells import escape_cell
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named

_FACTS = ("image_key", "uri", "status", "error_code", "sha256", "width", "height")


def write_csv(results: Iterable[ImageResult], names: Sequence[tuple[str, Model]], out: TextIO) -> int:
    """Write a header and one row per image. Return the number of images.

    `names` are the models of the run, each with the name that starts its columns.
    """
    writer = csv.writer(out)
    writer.writerow([*_FACTS, *(column for name, model in names for column in _columns(name, model))])
    count = 0
    for result in results:
        facts = [getattr(result, fact) for fact in _FACTS]
        row = [*facts, *(value for name, model in names for value in _values(result, name, model))]
        writer.writerow([escape_cell(value) if isinstance(value, str) else value for value in row])
        count += 1
    return count


def _columns(name: str, model: Model) -> tuple[str, ...]:
    return task_named(model.task).columns(name)


def _values(result: ImageResult, name: str, model: Model) -> tuple[object, ...]:
    return task_named(model.task).values(result.labels.get(name, ()), result.masks.get(name, ()))

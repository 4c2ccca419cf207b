"""Write results as CSV, one row per image. Cells hold no formulas, whatever suppliers wrote into keys and URLs."""

import csv
from collections.abc import Iterable, Sequence
from typing import TextIO

from producer.results.read import ImageResult
from tagmill.csv_cells import escape_cell
from tagmill.redact import shown_uri
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named

_FACTS = ("image_key", "uri", "status", "error_code", "sha256", "width", "height")


def write_csv(results: Iterable[ImageResult], names: Sequence[tuple[str, Model]], out: TextIO) -> int:
    """Write a header and one row per image. Return the number of images.

    `names` are the models of the run, each with the name that starts its columns.
    """
    tasks = [(name, task_named(model.task)) for name, model in names]
    writer = csv.writer(out)
    writer.writerow([*_FACTS, *(column for name, task in tasks for column in task.columns(name))])
    count = 0
    for found in results:
        row: list[object] = [escape_cell(found.image_key), escape_cell(shown_uri(found.uri))]
        row += (found.status, found.error_code, found.sha256, found.width, found.height)
        for name, task in tasks:
            row += map(escape_cell, task.values(found.labels.get(name, ()), found.masks.get(name, ())))
        writer.writerow(row)
        count += 1
    return count

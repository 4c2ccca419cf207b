"""Write results as CSV, one row per image. Cells hold no formulas, whatever suppliers wrote into keys and URLs."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from typing import Any, BinaryIO

from producer.output.extra_columns import cells, titles
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from tagmill.csv_cells import escape_cell
from tagmill.tasks.base import task_named

FACTS = ("image_key", "uri", "status", "error_code", "error_detail", "sha256", "width", "height", "run")
#: columns of one label or mask
ANSWER = ("model", "version", "rank", "label", "score", "area_share")


def write_csv(results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions) -> int:
    """Write a header and one row per image, or with `long` one per label and mask. Return the number of images."""
    write = _write_long if options.long else _write_wide
    text = TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        if options.for_people and not about.is_ascii:
            text.write("\ufeff")  # without it, a spreadsheet takes the file for text in its country's old encoding
        return write(results, about, csv.writer(text))
    finally:
        text.detach()  # the caller closes it


def _write_wide(results: Iterable[ImageResult], about: ResultSet, writer: Any) -> int:
    tasks = [(name, task_named(model.task)) for name, model in dict(about.models).items()]
    columns = [*FACTS, *(column for name, task in tasks for column in task.columns(name))]
    # A column `label` is one that people add with the right labels, before they train on the file.
    writer.writerow([*columns, *_extra_titles(about, [*columns, "label"])])
    extra = about.extra_columns
    count = 0
    for found in results:
        row = _facts(found)
        for name, task in tasks:
            row += map(escape_cell, task.values(found.labels.get(name, ()), found.masks.get(name, ())))
        if extra:
            row += map(escape_cell, cells(found.extra, extra))
        writer.writerow(row)
        count += 1
    return count


def _write_long(results: Iterable[ImageResult], about: ResultSet, writer: Any) -> int:
    columns = [*FACTS, *ANSWER]
    writer.writerow([*columns, *_extra_titles(about, columns)])
    count = 0
    for found in results:
        facts = _facts(found)
        extra = [escape_cell(cell) for cell in cells(found.extra, about.extra_columns)]
        # An image without labels has a row, too.
        for answer in list(_answers(found)) or [("",) * len(ANSWER)]:
            writer.writerow([*facts, *answer, *extra])
        count += 1
    return count


def _facts(found: ImageResult) -> list[object]:
    row: list[object] = [escape_cell(found.image_key), escape_cell(found.uri), found.status, found.error_code]
    row += (found.error_detail and escape_cell(found.error_detail), found.sha256, found.width, found.height)
    row.append(found.run_id)
    return row


def _answers(found: ImageResult) -> Iterator[Sequence[object]]:
    """Yield the values of each label and mask."""
    for name, model in found.models.items():
        title = (escape_cell(model.name), model.version)
        for rank, (label, score) in enumerate(found.labels.get(name, ()), 1):
            yield *title, rank, escape_cell(label), f"{score:.6f}", ""
        for rank, mask in enumerate(found.masks.get(name, ()), 1):
            yield *title, rank, escape_cell(mask.label), f"{mask.score:.6f}", f"{mask.area_share:.4f}"


def _extra_titles(about: ResultSet, taken: Sequence[str]) -> Iterator[str]:
    return map(escape_cell, titles(about.extra_columns, taken).values())

"""Read a CSV or TSV manifest, as spreadsheets, databases and feeds of shops write it."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from json.encoder import encode_basestring as quote
from typing import cast

from producer.sources.base import Problem, Row
from producer.sources.manifests.columns import Columns, choose_columns
from producer.sources.manifests.manifest import Manifest, ManifestError
from producer.sources.manifests.rows import RowMaker
from producer.sources.manifests.text.delimiter import DELIMITERS, find_delimiter
from producer.sources.manifests.text.lines import MAX_RECORD_BYTES, TextLines, open_lines
from tagmill.csv_cells import cell_reader, is_of_results
from tagmill.text import normalize

#: a line that Excel reads and does not show: the delimiter of the lines below it
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?")


def read_csv(manifest: Manifest) -> Iterator[Row | Problem]:
    """Yield the rows of a CSV file in order, its delimiter by its header. Holds one record and a block of lines."""
    yield from _read(manifest, None)


def read_tsv(manifest: Manifest) -> Iterator[Row | Problem]:
    """Yield the rows of a file whose cells are separated by tabs, with quotes as in CSV."""
    yield from _read(manifest, "\t")


def _read(manifest: Manifest, delimiter: str | None) -> Iterator[Row | Problem]:
    csv.field_size_limit(2 * MAX_RECORD_BYTES)  # of the process: the lines end before, and say why
    with open_lines(manifest) as lines:
        text = iter(lines)
        header, delimiter = _find_header(text, manifest, delimiter)
        reader = csv.reader(chain([header], text), delimiter=delimiter, strict=True, skipinitialspace=True)
        records = _read_records(reader, lines, manifest)
        names = next(records, None)
        if isinstance(names, Problem):
            yield names
        elif names is not None:
            try:
                table = _Table([normalize(name) for name in names], delimiter, manifest)
            except ManifestError as error:
                yield manifest.problem(lines.record, str(error))
                return
            yield from table.read(records, lines)


def _find_header(text: Iterator[str], manifest: Manifest, delimiter: str | None) -> tuple[str, str]:
    """Return the first line that is not blank, which may be empty, and the delimiter."""
    for line in text:
        if found := _SEPARATOR_LINE.fullmatch(line):
            delimiter = found[1]
        elif line.strip():
            return line, manifest.options.delimiter or delimiter or find_delimiter(line, manifest)
    return "", ","


class _Table:
    """Makes rows of the records below a header."""

    def __init__(self, names: list[str], delimiter: str, manifest: Manifest) -> None:
        self._columns = choose_columns(names, manifest)
        self._width = len(names)
        self._delimiter = delimiter
        self._manifest = manifest
        self._maker = RowMaker(manifest)
        self._cell = cell_reader(names)
        self._extra = _extra_maker(names, self._columns)

    def read(self, records: Iterator[list[str] | Problem], lines: TextLines) -> Iterator[Row | Problem]:
        """Yield the rows of all records, and the problems among them."""
        make, make_extra, read_cell, width = self._maker.make, self._extra, self._cell, self._width
        key, first = self._columns.key, self._columns.uris[0]
        single = self._maker.is_single if key is not None and len(self._columns.uris) == 1 else None
        for record in records:
            if isinstance(record, Problem):
                yield record
            elif len(record) != width:
                yield self._manifest.problem(lines.record, self._wrong_width(record))
            elif single and key is not None and single(record[first]):
                if item := make(lines.record, read_cell(record[key]), read_cell(record[first]), make_extra(record)):
                    yield item
            else:
                image_key = None if key is None else read_cell(record[key])
                uris = [read_cell(record[at]) for at in self._columns.uris]
                yield from self._maker.make_all(lines.record, image_key, uris, make_extra(record))

    def _wrong_width(self, record: Sequence[str]) -> str:
        mark = DELIMITERS.get(self._delimiter, repr(self._delimiter))
        return f"has {len(record)} fields, the header {self._width}; a field with a {mark} needs quotes"


def _read_records(reader: Iterator[list[str]], lines: TextLines, manifest: Manifest) -> Iterator[list[str] | Problem]:
    """Yield the fields of each record that is not blank; `lines.record` is its first line."""
    lines.record = lines.number
    while True:
        record: list[str] | str
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            record = f"is not CSV (a quote may be wrong or not closed): {error}"
        if message := lines.problem_since(lines.record) or (record if isinstance(record, str) else None):
            yield manifest.problem(lines.record, message)
            if lines.too_long:
                return
        elif any(record) and (len(record) > 1 or record[0].strip()):
            yield cast("list[str]", record)
        lines.start_record()
    if lines.too_long:
        yield manifest.problem(lines.record, str(lines.problem_since(lines.record)))


def _extra_maker(names: Sequence[str], columns: Columns) -> Callable[[Sequence[str]], str | None]:
    """Return the function that makes the JSON text of a record's further columns. Empty cells are left out."""
    if is_of_results(names) or not columns.extra:
        # What a model gave is no column of the catalog: it would come back beside the new results.
        return lambda record: None
    parts = [(at, f"{quote(name)}:") for at, name in columns.extra]

    def make(record: Sequence[str]) -> str | None:
        # Five times as fast as a dictionary for json.dumps.
        text = ",".join([name + quote(cell) for at, name in parts if (cell := record[at])])
        return f"{{{text}}}" if text else None

    return make

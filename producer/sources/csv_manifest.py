"""Read a CSV manifest with the columns image_key and uri, plain or gzipped."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from producer.sources.base import Problem, Row, folder_of
from producer.sources.manifest_row import check_manifest_row
from tagmill.csv_cells import cell_reader
from tagmill.disk_spelling import DiskSpelling
from tagmill.text import normalize

#: bytes of one CSV record with all its columns; also what an unclosed quote can swallow
MAX_RECORD_BYTES = 64 * 2**10


def read_csv_manifest(source: str) -> Iterator[Row | Problem]:
    """Yield the rows of a CSV file in order. Holds one record, at most `MAX_RECORD_BYTES`."""
    path = Path(source)
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with cast("BinaryIO", opener(path, "rb")) as file:
        lines = _Lines(file)
        try:
            yield from _read_rows(lines, source, folder_of(path))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield Problem(source, f"is damaged after line {lines.record}: {error}")


class _LineError(Exception):
    """A line is not text of a manifest. Reading cannot continue after a `fatal` one."""

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


class _Lines:
    """The lines of a manifest as text, at most `MAX_RECORD_BYTES` per record. Iteration continues after an error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._record_bytes = 0
        self._number = 0
        #: line number at which the current record starts
        self.record = 1

    def start_record(self) -> None:
        self.record = self._number + 1
        self._record_bytes = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_RECORD_BYTES + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._record_bytes += len(line)
        if self._record_bytes > MAX_RECORD_BYTES:
            raise _LineError(f"is longer than {MAX_RECORD_BYTES} bytes, or a quote is not closed", fatal=True)
        return self._decode(line)

    def _decode(self, line: bytes) -> str:
        try:
            text = line.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _LineError(f"is not UTF-8 at byte {error.start + 1} of the line") from error
        if "\0" in text:
            raise _LineError("contains a NUL byte; the manifest must be UTF-8 text")
        return text


def _read_rows(lines: _Lines, source: str, folder: Path) -> Iterator[Row | Problem]:
    records = _read_records(lines, source)
    header = next(records, None)
    if header is None or isinstance(header, Problem):
        if header:
            yield header
        return
    header = [normalize(name) for name in header]
    missing = [name for name in ("image_key", "uri") if header.count(name) != 1]
    if missing:
        found = ", ".join(repr(name) for name in islice(header, 20))
        yield Problem(f"{source}:{lines.record}", f"needs one column {' and one '.join(missing)}; found {found}"[:2000])
        return
    key_column, uri_column = header.index("image_key"), header.index("uri")
    spelling, read_cell = DiskSpelling(), cell_reader(header)
    for record in records:
        if isinstance(record, Problem):
            yield record
        elif len(record) != len(header):
            message = f"has {len(record)} fields, the header {len(header)}; a field with a comma needs quotes"
            yield Problem(f"{source}:{lines.record}", message)
        else:
            row = Row(lines.record, read_cell(record[key_column]), read_cell(record[uri_column]))
            yield check_manifest_row(row, source, folder, spelling)


def _read_records(lines: _Lines, source: str) -> Iterator[list[str] | Problem]:
    """Yield the fields of each record that is not blank; `lines.record` is its first line."""
    # A quote after a comma and a space begins a quoted field, too.
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    while True:
        lines.start_record()
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(f"{source}:{lines.record}", f"is not CSV (a quote may be wrong or not closed): {error}")
        except _LineError as error:
            yield Problem(f"{source}:{lines.record}", str(error))
            if error.fatal:
                return
        else:
            if len(record) > 1 or "".join(record).strip():
                yield record

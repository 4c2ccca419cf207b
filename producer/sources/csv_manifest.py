"""Read what a producer submits: folders, CSV manifests and single image files, streamed in flat memory."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from producer.sources.base import Problem, _folder_of, _Row, _short

MANIFEST_SUFFIXES = (".csv", ".csv.gz")
#: bytes of one CSV record with all its columns; also what an unclosed quote can swallow
MAX_RECORD_BYTES = 64 * 2**10

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{,30})://|(data):", re.IGNORECASE)


class _LineError(Exception):
    """A line cannot be text of a manifest. After a `fatal` one, reading on makes no sense."""

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


class _Lines:
    """The lines of a manifest as text, held to `MAX_RECORD_BYTES` a record. Goes on after an error."""

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


def _read_manifest(source: str) -> Iterator[_Row | Problem]:
    path = Path(source)
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with cast("BinaryIO", opener(path, "rb")) as file:
        lines = _Lines(file)
        try:
            yield from _read_records(lines, source, _folder_of(path))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield Problem(source, f"is damaged after line {lines.record}: {error}")


def _read_records(lines: _Lines, source: str, folder: Path) -> Iterator[_Row | Problem]:
    records = _records(lines, source)
    header = next(records, None)
    if header is None or isinstance(header, Problem):
        if header:
            yield header
        return
    missing = [name for name in ("image_key", "uri") if header.count(name) != 1]
    if missing:
        found = ", ".join(repr(name) for name in islice(header, 20))
        yield Problem(f"{source}:{lines.record}", f"needs one column {' and one '.join(missing)}; found {found}"[:2000])
        return
    columns = header.index("image_key"), header.index("uri")
    for record in records:
        if isinstance(record, Problem):
            yield record
        elif len(record) != len(header):
            message = f"has {len(record)} fields, the header {len(header)}; a field with a comma needs quotes"
            yield Problem(f"{source}:{lines.record}", message)
        else:
            row = _Row(lines.record, record[columns[0]], record[columns[1]])
            complaint = _uri_complaint(row)
            yield Problem(f"{source}:{lines.record}", complaint) if complaint else _absolute(row, folder)


def _records(lines: _Lines, source: str) -> Iterator[list[str] | Problem]:
    """Yield the fields of each record that is not blank; `lines.record` is its first line."""
    reader = csv.reader(lines, strict=True)
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
            if record:
                yield record


def _uri_complaint(row: _Row) -> str | None:
    if not row.image_key.strip():
        return "image_key is empty"
    if not row.uri.strip():
        return f"uri of {_short(row.image_key)} is empty"
    scheme = _SCHEME.match(row.uri)
    if scheme is None:
        return None
    name = (scheme[1] or scheme[2]).lower()
    if name not in {"http", "https"}:
        return f"uri with {name!r} is not supported; write a path, http:// or https://"
    return None if _has_host(row.uri) else f"uri of {_short(row.image_key)} names no host"


def _absolute(row: _Row, folder: Path) -> _Row:
    if row.uri.startswith("/") or _SCHEME.match(row.uri):
        return row
    return row._replace(uri=f"{folder}/{row.uri}")


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _is_manifest(path: Path) -> bool:
    return path.name.lower().endswith(MANIFEST_SUFFIXES) and not path.is_dir()

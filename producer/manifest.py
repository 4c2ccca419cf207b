"""Read what a producer submits: folders, CSV manifests and single image files, streamed in flat memory."""

import csv
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

from tagmill.errors import InputError, NothingToDo

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MANIFEST_SUFFIXES = (".csv", ".csv.gz")
#: characters
MAX_KEY_LENGTH = 512
#: characters, after a relative uri was made absolute
MAX_URI_LENGTH = 4096
#: bytes of one CSV record with all its columns; also what an unclosed quote can swallow
MAX_RECORD_BYTES = 64 * 2**10
#: problems that `check` keeps; the others are counted
MAX_PROBLEMS = 100

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{,30})://|(data):", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One image to tag: its key, unique in a run, and where its bytes are (absolute path or http(s) URL)."""

    image_key: str
    uri: str


@dataclass(frozen=True)
class Problem:
    """Why an entry or a whole source cannot be used; `place` is FILE:LINE, a file, or a source."""

    place: str
    message: str
    #: the source holds no entry at all
    empty: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Findings:
    """What `check` saw: good entries, the first `MAX_PROBLEMS` problems, and how many there are."""

    entries: int
    problems: tuple[Problem, ...]
    problem_count: int


class _Row(NamedTuple):
    """An entry before its checks; `line` is 0 outside a manifest."""

    line: int
    image_key: str
    uri: str


def open_sources(sources: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of all sources, in order. Raise InputError or NothingToDo at the first problem."""
    for item in _scan(sources):
        if isinstance(item, Problem):
            raise (NothingToDo if item.empty else InputError)(str(item))
        yield item


def check(sources: Sequence[str]) -> Findings:
    """Read all sources to their end and return every problem instead of raising the first."""
    entries = problem_count = 0
    problems: list[Problem] = []
    for item in _scan(sources):
        if isinstance(item, Entry):
            entries += 1
            continue
        problem_count += 1
        if len(problems) < MAX_PROBLEMS:
            problems.append(item)
    return Findings(entries, tuple(problems), problem_count)


def roots_of(sources: Sequence[str]) -> tuple[Path, ...]:
    """Return what the user allowed to be read by naming it: a folder, a manifest's folder, or one image file.

    Paths are resolved. Raise InputError for a source that does not exist.
    """
    return tuple(dict.fromkeys(_root_of(source) for source in sources))


def _root_of(source: str) -> Path:
    path = Path(source)
    try:
        found = _folder_of(path) if _is_manifest(path) else path.resolve(strict=True)
        str(found).encode()  # it is stored in SQL
        return found
    except UnicodeEncodeError as error:
        raise InputError(f"{source!r}: its name is not UTF-8, rename it") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of symlinks
        raise InputError(f"{source!r}: {_reason(error)}") from error


def _scan(sources: Sequence[str]) -> Iterator[Entry | Problem]:
    """Yield entries and problems of all sources; both consumers above are thin."""
    if not sources:
        yield Problem("SOURCE", "none was given", empty=True)
    seen = _SeenKeys(sources)
    for number, source in enumerate(sources):
        items = _read(source)
        first = next(items, None)
        if first is None:
            yield Problem(source, _why_empty(Path(source)), empty=True)
            continue
        yield _examine(first, seen, number)
        for item in items:
            yield _examine(item, seen, number)


def _examine(item: _Row | Problem, seen: "_SeenKeys", source: int) -> Entry | Problem:
    if isinstance(item, Problem):
        return item
    complaint = _complaint(item)
    if complaint is None and (earlier := seen.first_place(item.image_key, source, item.line)):
        complaint = f"image_key {_short(item.image_key)} is already in {earlier}"
    return Problem(seen.place(source, item.line), complaint) if complaint else Entry(item.image_key, item.uri)


def _complaint(row: _Row) -> str | None:
    if len(row.image_key) > MAX_KEY_LENGTH:
        return f"image_key has {len(row.image_key)} characters, allowed are {MAX_KEY_LENGTH}: {_short(row.image_key)}"
    if len(row.uri) > MAX_URI_LENGTH:
        # Without an excerpt: a URL may hold a password.
        return f"uri of {_short(row.image_key)} has {len(row.uri)} characters, allowed are {MAX_URI_LENGTH}"
    if not row.uri.isascii() and any("\ud800" <= char <= "\udfff" for char in row.uri):
        # Surrogates are how Python spells a file name's bytes that are not UTF-8. SQL cannot store them.
        return f"the file name is not UTF-8, rename it: {_short(row.uri)}"
    return None


def _read(source: str) -> Iterator[_Row | Problem]:
    path = Path(source)
    try:
        if path.is_dir():
            yield from _walk(path.resolve(strict=True))
        elif not path.is_file():
            yield Problem(repr(source), "no such file or folder")
        elif _is_manifest(path):
            yield from _read_manifest(source)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            yield _Row(0, path.name, str(_folder_of(path) / path.name))
        else:
            known = ", ".join(MANIFEST_SUFFIXES + IMAGE_SUFFIXES)
            yield Problem(source, f"is neither a folder nor a file with one of the suffixes {known}")
    except OSError as error:
        yield Problem(source, f"cannot be read: {_reason(error)}")


def _walk(root: Path) -> Iterator[_Row | Problem]:
    """Yield the images below a folder, sorted by their relative path. Links to folders are not followed.

    Holds the names of one folder for each level, about 100 bytes a name.
    """
    levels = [_list_folder(str(root), "")]
    while levels:
        item = next(levels[-1], None)
        if item is None:
            levels.pop()
        elif isinstance(item, Problem):
            yield item
        elif item.endswith("/"):
            levels.append(_list_folder(str(root), item))
        else:
            yield _Row(0, item, os.path.join(root, item))  # noqa: PTH118 - runs once an image; three times faster


def _list_folder(root: str, folder: str) -> Iterator[str | Problem]:
    """Yield paths relative to `root`, those of folders with a slash at their end."""
    try:
        with os.scandir(os.path.join(root, folder)) as items:  # noqa: PTH118 - see above
            names = [name for item in items if (name := _wanted(item))]
    except OSError as error:
        yield Problem(f"{root}/{folder}", f"cannot be read: {_reason(error)}")
        return
    # With the slash, sorting each folder by itself sorts all relative paths.
    names.sort()
    for name in names:
        yield folder + name


def _wanted(item: os.DirEntry[str]) -> str | None:
    if item.name.startswith("."):
        return None
    if item.is_dir(follow_symlinks=False):
        return f"{item.name}/"
    # Anything else with an image's name is an entry, also a broken link: the worker records what is wrong with it.
    is_image = item.name.lower().endswith(IMAGE_SUFFIXES)
    return item.name if is_image and not (item.is_symlink() and Path(item.path).is_dir()) else None


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


class _SeenKeys:
    """Finds a key that comes twice, and where it came first.

    Keeps 80 bits of hash and 64 bits of place for each key in 65 536 byte strings: about 20 bytes a key where a set of
    strings takes 150. That two of ten million different keys share their 80 bits has a chance of 1 in 2 * 10^10.
    """

    _TAIL, _PLACE = 8, 8

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._buckets = [bytearray() for _ in range(2**16)]

    def first_place(self, image_key: str, source: int, line: int) -> str | None:
        """Return where the key came before; otherwise remember it and return None."""
        digest = blake2b(image_key.encode(), digest_size=2 + self._TAIL).digest()
        bucket, tail = self._buckets[int.from_bytes(digest[:2])], digest[2:]
        at = bucket.find(tail)
        while at >= 0 and at % (self._TAIL + self._PLACE):  # a match across two records is none
            at = bucket.find(tail, at + 1)
        if at < 0:
            bucket += tail + (source << 40 | line).to_bytes(self._PLACE)
            return None
        place = int.from_bytes(bucket[at + self._TAIL : at + self._TAIL + self._PLACE])
        return self.place(place >> 40, place & (1 << 40) - 1)

    def place(self, source: int, line: int) -> str:
        """Return FILE:LINE, or the source where there are no lines."""
        return f"{self._sources[source]}:{line}" if line else self._sources[source]


def _is_manifest(path: Path) -> bool:
    return path.name.lower().endswith(MANIFEST_SUFFIXES) and not path.is_dir()


def _folder_of(path: Path) -> Path:
    path.stat()  # names a missing file instead of its folder
    return path.parent.resolve(strict=True)


def _why_empty(path: Path) -> str:
    if path.is_dir():
        return f"no images in this folder; looked for {', '.join(IMAGE_SUFFIXES)}"
    return "the manifest holds no entries"


def _short(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}…"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

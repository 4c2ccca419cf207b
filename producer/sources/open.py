"""Read all sources of a run in order: pick the reader of each, and check every entry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from producer.sources.base import Problem, _complaint, _folder_of, _reason, _Row, _short
from producer.sources.csv_manifest import MANIFEST_SUFFIXES, _is_manifest, _read_manifest
from producer.sources.folder import _walk
from producer.sources.seen_keys import SeenKeys
from tagmill.errors import InputError, NothingToDo
from tagmill.images.image import SUFFIXES
from tagmill.records import Entry

#: problems that `check` keeps; the others are counted
MAX_PROBLEMS = 100


@dataclass(frozen=True)
class SourceReport:
    """What `check` saw: good entries, the first `MAX_PROBLEMS` problems, and how many there are."""

    entries: int
    problems: tuple[Problem, ...]
    problem_count: int


def open_sources(sources: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of all sources, in order. Raise InputError or NothingToDo at the first problem."""
    for item in _scan(sources):
        if isinstance(item, Problem):
            raise (NothingToDo if item.empty else InputError)(str(item))
        yield item


def check(sources: Sequence[str]) -> SourceReport:
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
    return SourceReport(entries, tuple(problems), problem_count)


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
    seen = SeenKeys(sources)
    for number, source in enumerate(sources):
        items = _read(source)
        first = next(items, None)
        if first is None:
            yield Problem(source, _why_empty(Path(source)), empty=True)
            continue
        yield _examine(first, seen, number)
        for item in items:
            yield _examine(item, seen, number)


def _examine(item: _Row | Problem, seen: "SeenKeys", source: int) -> Entry | Problem:
    if isinstance(item, Problem):
        return item
    complaint = _complaint(item)
    if complaint is None and (earlier := seen.first_place(item.image_key, source, item.line)):
        complaint = f"image_key {_short(item.image_key)} is already in {earlier}"
    return Problem(seen.place(source, item.line), complaint) if complaint else Entry(item.image_key, item.uri)


def _read(source: str) -> Iterator[_Row | Problem]:
    path = Path(source)
    try:
        if path.is_dir():
            yield from _walk(path.resolve(strict=True))
        elif not path.is_file():
            yield Problem(repr(source), "no such file or folder")
        elif _is_manifest(path):
            yield from _read_manifest(source)
        elif path.suffix.lower() in SUFFIXES:
            yield _Row(0, path.name, str(_folder_of(path) / path.name))
        else:
            known = ", ".join(MANIFEST_SUFFIXES + SUFFIXES)
            yield Problem(source, f"is neither a folder nor a file with one of the suffixes {known}")
    except OSError as error:
        yield Problem(source, f"cannot be read: {_reason(error)}")


def _why_empty(path: Path) -> str:
    if path.is_dir():
        return f"no images in this folder; looked for {', '.join(SUFFIXES)}"
    return "the manifest holds no entries"

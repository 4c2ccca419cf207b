"""Read all sources of a run in order: choose the reader of each, and check every entry."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from producer.sources.base import Problem, Reader, Row, Skipped, folder_of, problem_with, reason_of
from producer.sources.csv_manifest import read_csv_manifest
from producer.sources.folder import read_folder
from producer.sources.image_file import read_image_file
from producer.sources.seen_keys import SeenKeys
from tagmill.disk_spelling import DiskSpelling
from tagmill.errors import InputError, NothingToDo
from tagmill.images.file_names import NOT_UTF8, SkippedFiles
from tagmill.images.image import SUFFIXES
from tagmill.records import Entry

#: The reader of a manifest, by the end of its file name. A new format is a module and a line here.
MANIFEST_READERS: Mapping[str, Reader] = {
    ".csv": read_csv_manifest,
    ".csv.gz": read_csv_manifest,
}
#: problems that `check` keeps; the others are counted
MAX_PROBLEMS = 100


@dataclass(frozen=True)
class SourceReport:
    """The number of good entries, the first `MAX_PROBLEMS` problems, the number of all problems, and skipped files."""

    entries: int
    problems: tuple[Problem, ...]
    problem_count: int
    skipped: SkippedFiles


def open_sources(sources: Sequence[str], skipped: SkippedFiles | None = None) -> Iterator[Entry]:
    """Yield the entries of all sources, in order. Raise InputError or NothingToDo at the first problem.

    A key that comes twice is known, and raised, once all entries were read. `skipped` is told of the files of folders
    that are no entries.
    """
    with closing(SeenKeys(sources)) as seen:
        for item in _scan(sources, SkippedFiles() if skipped is None else skipped, seen):
            if isinstance(item, Problem):
                raise (NothingToDo if item.empty else InputError)(str(item))
            yield item
        twice, _ = seen.problems(1)
        if twice:
            raise InputError(str(twice[0]))


def check(sources: Sequence[str]) -> SourceReport:
    """Read all sources to their end. Return every problem instead of raising the first; keys that come twice last."""
    entries = problem_count = 0
    problems: list[Problem] = []
    skipped = SkippedFiles()
    with closing(SeenKeys(sources)) as seen:
        for item in _scan(sources, skipped, seen):
            if isinstance(item, Entry):
                entries += 1
                continue
            problem_count += 1
            if len(problems) < MAX_PROBLEMS:
                problems.append(item)
        twice, count = seen.problems(MAX_PROBLEMS - len(problems))
    return SourceReport(entries - count, (*problems, *twice), problem_count + count, skipped)


def roots_of(sources: Sequence[str]) -> tuple[Path, ...]:
    """Return what the workers may read: each named folder, the folder of each manifest, each named image file.

    Paths are resolved. Raise InputError for a source that does not exist.
    """
    return tuple(dict.fromkeys(_root_of(source) for source in sources))


def _root_of(source: str) -> Path:
    try:
        path = Path(_on_disk(source))
        is_manifest = _manifest_reader(path) is not None and not path.is_dir()
        found = folder_of(path) if is_manifest else path.resolve(strict=True)
        str(found).encode()  # it is stored in SQL
        return found
    except UnicodeEncodeError as error:
        raise InputError(f"{source!r}: its name is not UTF-8, rename it") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of symlinks
        raise InputError(f"{source!r}: {reason_of(error)}") from error


def _scan(sources: Sequence[str], skipped: SkippedFiles, seen: SeenKeys) -> Iterator[Entry | Problem]:
    """Yield the entries and problems of all sources, in order. Count what is skipped, and remember the keys."""
    if not sources:
        yield Problem("SOURCE", "none was given", empty=True)
    for number, source in enumerate(sources):
        empty, own = True, SkippedFiles()
        for item in _read(source):
            if isinstance(item, Skipped):
                own.add(*item)
                continue
            empty = False
            yield item if isinstance(item, Problem) else _check_row(item, seen, number)
        if empty:
            yield _why_empty(source, own)
        skipped.update(own)


def _check_row(row: Row, seen: SeenKeys, source: int) -> Entry | Problem:
    if message := problem_with(row):
        return Problem(seen.place(source, row.line), message)
    seen.add(row.image_key, source, row.line)
    return Entry(row.image_key, row.uri)


def _on_disk(source: str) -> str:
    """Return a source as the disk spells it."""
    return DiskSpelling().find(source)


def _read(source: str) -> Iterator[Row | Problem | Skipped]:
    found = _on_disk(source)
    path = Path(found)
    try:
        if not path.is_dir() and not path.is_file():
            yield Problem(repr(source), "no such file or folder")
        elif reader := _reader_of(path):
            yield from reader(found)
        else:
            known = ", ".join((*MANIFEST_READERS, *SUFFIXES))
            yield Problem(source, f"is neither a folder nor a file with one of the suffixes {known}")
    except OSError as error:
        yield Problem(source, f"cannot be read: {reason_of(error)}")


def _reader_of(path: Path) -> Reader | None:
    if path.is_dir():
        return read_folder
    if path.suffix.lower() in SUFFIXES:
        return read_image_file
    return _manifest_reader(path)


def _manifest_reader(path: Path) -> Reader | None:
    name = path.name.lower()
    return next((reader for suffix, reader in MANIFEST_READERS.items() if name.endswith(suffix)), None)


def _why_empty(source: str, skipped: SkippedFiles) -> Problem:
    if not Path(_on_disk(source)).is_dir():
        return Problem(source, "the manifest holds no entries", empty=True)
    why = "; ".join((f"no images in this folder; looked for {', '.join(SUFFIXES)}", *skipped.lines()))
    # Names that must be corrected are a mistake, not an empty folder.
    return Problem(source, why, empty=NOT_UTF8 not in skipped)

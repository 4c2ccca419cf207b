"""Read all sources of a run in order: choose the reader of each, and check every entry."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from producer.sources.base import Problem, Reader, Row, Skipped, folder_of, problem_with, reason_of
from producer.sources.choose import choose
from producer.sources.folder import read_folder
from producer.sources.image_file import read_image_file
from producer.sources.manifests.formats import MANIFEST_READERS, manifest_of, manifest_reader
from producer.sources.manifests.manifest import ManifestError
from producer.sources.manifests.standard_input import STANDARD_INPUT
from producer.sources.options import READ_ALL, ReadOptions
from producer.sources.seen_keys import SeenKeys
from tagmill.disk_spelling import DiskSpelling
from tagmill.errors import InputError, NothingToDo
from tagmill.images.file_names import NOT_UTF8, SkippedFiles
from tagmill.images.image import SUFFIXES
from tagmill.records import Entry

#: problems that `check` keeps; the others are counted
MAX_PROBLEMS = 100


@dataclass(frozen=True)
class SourceReport:
    """The number of good entries, the first `MAX_PROBLEMS` problems, the number of all problems, and skipped files."""

    entries: int
    problems: tuple[Problem, ...]
    problem_count: int
    skipped: SkippedFiles


def open_sources(
    sources: Sequence[str], skipped: SkippedFiles | None = None, options: ReadOptions = READ_ALL
) -> Iterator[Entry]:
    """Yield the entries of all sources, in order. Raise InputError or NothingToDo at the first problem.

    A key that comes twice is known, and raised, once all entries were read. `skipped` is told of the files of folders
    that are no entries.
    """
    with closing(SeenKeys(sources)) as seen:
        items = _scan(sources, SkippedFiles() if skipped is None else skipped, options, seen)
        for item in choose(items, options):
            if isinstance(item, Problem):
                raise (NothingToDo if item.empty else InputError)(str(item))
            yield item
        twice, _ = seen.problems(1)
        if twice:
            raise InputError(str(twice[0]))


def check(sources: Sequence[str], options: ReadOptions = READ_ALL) -> SourceReport:
    """Read all sources to their end. Return every problem instead of raising the first; keys that come twice last."""
    entries = problem_count = 0
    problems: list[Problem] = []
    skipped = SkippedFiles()
    options = replace(options, writes=False)
    with closing(SeenKeys(sources)) as seen:
        for item in choose(_scan(sources, skipped, options, seen), options):
            if isinstance(item, Entry):
                entries += 1
                continue
            problem_count += 1
            if len(problems) < MAX_PROBLEMS:
                problems.append(item)
        twice, count = seen.problems(MAX_PROBLEMS - len(problems))
    # A key that comes twice is none of a small sample, perhaps.
    good = max(0, entries - count)
    return SourceReport(good, (*problems, *twice), problem_count + count, skipped)


def roots_of(sources: Sequence[str], options: ReadOptions = READ_ALL) -> tuple[Path, ...]:
    """Return what the workers may read: each named folder, the folder of each manifest, each named image file.

    Also the folder that images inside manifests are written to. Paths are resolved. Raise InputError for a source that
    does not exist.
    """
    roots = dict.fromkeys(_root_of(source, options) for source in sources)
    if options.extract:
        roots[options.extract.resolve()] = None
    return tuple(roots)


def absolute_source(source: str) -> str:
    """Return a source as it is named in SQL, wherever the command runs."""
    return source if source == STANDARD_INPUT else str(Path(source).resolve())


def _root_of(source: str, options: ReadOptions) -> Path:
    try:
        if source == STANDARD_INPUT:
            return Path.cwd()
        path = Path(_on_disk(source))
        is_manifest = manifest_reader(str(path), options) is not None and not path.is_dir()
        found = folder_of(path) if is_manifest else path.resolve(strict=True)
        str(found).encode()  # it is stored in SQL
        return found
    except UnicodeEncodeError as error:
        raise InputError(f"{source!r}: its name is not UTF-8, rename it") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of symlinks
        raise InputError(f"{source!r}: {reason_of(error)}") from error


def _scan(
    sources: Sequence[str], skipped: SkippedFiles, options: ReadOptions, seen: SeenKeys
) -> Iterator[Entry | Problem]:
    """Yield the entries and problems of all sources, in order. Count what is skipped, and remember the keys."""
    if not sources:
        yield Problem("SOURCE", "none was given", empty=True)
    nothing = True
    for number, source in enumerate(sources):
        empty, own = True, SkippedFiles()
        for item in _read(source, options):
            if isinstance(item, Skipped):
                own.add(*item)
                continue
            empty = nothing = False
            yield item if isinstance(item, Problem) else _check_row(item, seen, number)
        if empty and not options.where:
            yield _why_empty(source, own)
        skipped.update(own)
    if nothing and options.where:
        yield Problem(" ".join(sources), "no entry meets --where", empty=True)


def _check_row(row: Row, seen: SeenKeys, source: int) -> Entry | Problem:
    if message := problem_with(row):
        return Problem(seen.place(source, row.line), message)
    seen.add(row.image_key, source, row.line)
    return Entry(row.image_key, row.uri, row.extra)


def _on_disk(source: str) -> str:
    """Return a source as the disk spells it."""
    return DiskSpelling().find(source)


def _read(source: str, options: ReadOptions) -> Iterator[Row | Problem | Skipped]:
    try:
        if source == STANDARD_INPUT:
            yield from _read_manifest(source, options)
            return
        found = _on_disk(source)
        path = Path(found)
        if not path.is_dir() and not path.is_file():
            yield Problem(repr(source), "no such file or folder")
        elif not path.is_dir() and manifest_reader(found, options):
            yield from _read_manifest(found, options)
        elif reader := _reader_of(path):
            for item in reader(found):
                if not isinstance(item, Row) or options.where.matches(item.image_key, item.uri, None):
                    yield item
        else:
            known = ", ".join((*MANIFEST_READERS, *SUFFIXES))
            message = f"is neither a folder nor a file with one of the suffixes {known}; say what it is with --format"
            yield Problem(source, message)
    except OSError as error:
        yield Problem(source, f"cannot be read: {reason_of(error)}")


def _read_manifest(source: str, options: ReadOptions) -> Iterator[Row | Problem]:
    reader = manifest_reader(source, options)
    try:
        if reader:
            yield from reader(manifest_of(source, options))
    except ManifestError as error:
        yield Problem(source, str(error))


def _reader_of(path: Path) -> Reader | None:
    if path.is_dir():
        return read_folder
    return read_image_file if path.suffix.lower() in SUFFIXES else None


def _why_empty(source: str, skipped: SkippedFiles) -> Problem:
    if source == STANDARD_INPUT or not Path(_on_disk(source)).is_dir():
        return Problem(source, "the manifest holds no entries", empty=True)
    why = "; ".join((f"no images in this folder; looked for {', '.join(SUFFIXES)}", *skipped.lines()))
    # Names that must be corrected are a mistake, not an empty folder.
    return Problem(source, why, empty=NOT_UTF8 not in skipped)

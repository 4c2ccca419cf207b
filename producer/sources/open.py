"""Read all sources of a run in order: choose the reader of each, and check every entry."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from producer.sources.base import Problem, Row, Skipped, folder_of, problem_with, reason_of
from producer.sources.choose import choose
from producer.sources.manifests.formats import MANIFEST_READERS, is_file, label_of, manifest_reader
from producer.sources.options import READ_ALL, ReadOptions
from producer.sources.parts import NO_SOURCE, on_disk, parts_of
from producer.sources.seen_keys import SeenKeys
from producer.sources.stores.source import is_prefix, stored_root
from tagmill.errors import InputError, NothingToDo
from tagmill.images.file_names import NOT_UTF8, SkippedFiles
from tagmill.images.image import SUFFIXES
from tagmill.locations.redact import shown_uri
from tagmill.locations.schemes import is_stored, url_scheme
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
    labels: list[str] = []
    skipped = SkippedFiles() if skipped is None else skipped
    with closing(SeenKeys(labels)) as seen, closing(_scan(sources, skipped, options, seen, labels)) as items:
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
    labels: list[str] = []
    with closing(SeenKeys(labels)) as seen, closing(_scan(sources, skipped, options, seen, labels)) as items:
        for item in choose(items, options):
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


def roots_of(sources: Sequence[str], options: ReadOptions = READ_ALL) -> tuple[Path | str, ...]:
    """Return what the workers may read: each named folder, the folder of each manifest, each named image file.

    Of a store these are prefixes, as text. Also the folder that images inside manifests are written to. Paths are
    resolved. Raise InputError for a source that does not exist.
    """
    roots = dict.fromkeys(_root_of(source, options) for source in sources)
    if options.extract:
        roots[options.extract.resolve()] = None
    return tuple(roots)


def absolute_source(source: str) -> str:
    """Return a source as it is named in SQL, wherever the command runs."""
    return str(Path(source).resolve()) if is_file(source) else source


def _root_of(source: str, options: ReadOptions) -> Path | str:
    try:
        if is_stored(source):
            return stored_root(source, options)
        if url_scheme(source):
            raise InputError(f"{shown_uri(source)}: {NO_SOURCE}")
        if not is_file(source):
            return Path.cwd()
        path = Path(on_disk(source))
        is_manifest = manifest_reader(str(path), options) is not None and not path.is_dir()
        found = folder_of(path) if is_manifest else path.resolve(strict=True)
        str(found).encode()  # it is stored in SQL
        return found
    except UnicodeEncodeError as error:
        raise InputError(f"{source!r}: its name is not UTF-8, rename it") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of symlinks
        raise InputError(f"{source!r}: {reason_of(error)}") from error


def _scan(
    sources: Sequence[str], skipped: SkippedFiles, options: ReadOptions, seen: SeenKeys, labels: list[str]
) -> Generator[Entry | Problem, None, None]:
    """Yield the entries and problems of all sources, in order. Count what is skipped, and remember the keys.

    What is read is added to `labels`, whose names `seen` gives to the places of keys.
    """
    if not sources:
        yield Problem("SOURCE", "none was given", empty=True)
    nothing = True
    for source in sources:
        empty, own = True, SkippedFiles()
        for part in parts_of(source, options):
            labels.append(part.label)
            number = len(labels) - 1
            for item in part.items:
                if isinstance(item, Skipped):
                    own.add(*item)
                    continue
                empty = nothing = False
                yield item if isinstance(item, Problem) else _check_row(item, seen, number)
        if empty and not options.where:
            yield _why_empty(source, own, options)
        skipped.update(own)
    if nothing and options.where:
        yield Problem(" ".join(map(label_of, sources)), "no entry meets --where", empty=True)


def _check_row(row: Row, seen: SeenKeys, source: int) -> Entry | Problem:
    if message := problem_with(row):
        return Problem(seen.place(source, row.line), message)
    seen.add(row.image_key, source, row.line)
    return Entry(row.image_key, row.uri, row.extra)


def _why_empty(source: str, skipped: SkippedFiles, options: ReadOptions) -> Problem:
    is_folder = is_prefix(source, options) if is_stored(source) else is_file(source) and Path(on_disk(source)).is_dir()
    if not is_folder:
        return Problem(label_of(source), "the manifest holds no entries", empty=True)
    where = "there" if is_stored(source) else "in this folder"
    why = "; ".join((f"no images {where}; looked for {', '.join(SUFFIXES)}", *skipped.lines()))
    if manifests := [suffix for suffix in MANIFEST_READERS if suffix in skipped]:
        why += f"; if these are manifests, name them: {source.rstrip('/')}/*{manifests[0]}"
    # Names that must be corrected are a mistake, not an empty folder.
    return Problem(source, why, empty=NOT_UTF8 not in skipped)

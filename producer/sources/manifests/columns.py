"""Find the columns of keys and locations among those of a manifest."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from producer.sources.manifests.manifest import Manifest, ManifestError

#: default names, the first one present is taken
KEY_COLUMNS = ("image_key", "id", "key")
URI_COLUMNS = ("uri", "url", "path", "image", "image_link", "file_name")
#: ends of the names of columns that hold file names in a Hugging Face folder
_FILE_NAME = "file_name"


class NoFileNames(Exception):
    """A file named like metadata has no column of file names: it is none."""


@dataclass(frozen=True)
class Columns:
    """The columns of a manifest by their positions."""

    #: None in a metadata file, whose keys are the file names, and for images inside a file
    key: int | None
    uris: tuple[int, ...]
    #: further columns with their names, each name once
    extra: tuple[tuple[int, str], ...]


def choose_columns(names: Sequence[str], manifest: Manifest, embedded: Collection[int] = ()) -> Columns:
    """Return the columns of a header of normalized names. Raise ManifestError, which lists those found.

    Names are compared without case, and a space is an underscore, if no name is exactly the same. `embedded` are the
    columns that hold images themselves, and may do without a key.
    """
    options = manifest.options
    if options.uri_columns:
        uris = tuple(_find(names, name, "--uri-column") for name in options.uri_columns)
    elif manifest.key_prefix is not None:
        uris = _file_names(names)
    else:
        uris = (_choose_one(names, None, URI_COLUMNS, "--uri-column", manifest),)
    key = None
    if options.key_column or not (manifest.key_prefix is not None or _lacks_key(names, uris, embedded)):
        key = _choose_one(names, options.key_column, KEY_COLUMNS, "--key-column", manifest)
    extra = _further(names, {key, *uris}, manifest)
    return Columns(key, uris, extra)


def describe_columns(names: Iterable[str]) -> str:
    """Return the first names of a header for a message."""
    return ", ".join(repr(name) for name in islice(names, 20))[:1500] or "none"


def _choose_one(
    names: Sequence[str], wanted: str | None, defaults: Sequence[str], option: str, manifest: Manifest
) -> int:
    if wanted:
        return _find(names, wanted, option)
    present = [name for name in defaults if _matches(names, name)]
    if not present:
        known = f"{', '.join(defaults[:-1])} or {defaults[-1]}"
        raise ManifestError(f"has no column {known}; found {describe_columns(names)}. Name it with {option}")
    if len(present) > 1:
        others = ", ".join(present[1:])
        manifest.options.tell(f"{manifest.label}: takes the column {present[0]}, not {others}; choose with {option}")
    return _find(names, present[0], option)


def _lacks_key(names: Sequence[str], uris: Iterable[int], embedded: Collection[int]) -> bool:
    return all(at in embedded for at in uris) and not any(_matches(names, name) for name in KEY_COLUMNS)


def _find(names: Sequence[str], wanted: str, option: str) -> int:
    found = _matches(names, wanted)
    if len(found) == 1:
        return found[0]
    if found:
        raise ManifestError(f"has {len(found)} columns {wanted!r}; found {describe_columns(names)}")
    raise ManifestError(f"has no column {wanted!r} ({option}); found {describe_columns(names)}")


def _matches(names: Sequence[str], wanted: str) -> list[int]:
    exact = [at for at, name in enumerate(names) if name == wanted]
    return exact or [at for at, name in enumerate(names) if _fold(name) == _fold(wanted)]


def _fold(name: str) -> str:
    return name.casefold().replace(" ", "_")


def _file_names(names: Sequence[str]) -> tuple[int, ...]:
    if _FILE_NAME in names:
        return (names.index(_FILE_NAME),)
    found = tuple(at for at, name in enumerate(names) if name.endswith(f"_{_FILE_NAME}"))
    if not found:
        raise NoFileNames
    return found


def _further(names: Sequence[str], used: set[int | None], manifest: Manifest) -> tuple[tuple[int, str], ...]:
    """Return the columns that are kept or that a condition is on, without those that are used already."""
    where = manifest.options.where.columns
    if missing := where.difference(names):
        lacks = ", ".join(map(repr, sorted(missing)))
        manifest.options.tell(f"{manifest.label}: has no column {lacks} for --where; found {describe_columns(names)}")
    further: dict[str, int] = {}
    for at, name in enumerate(names):
        if name and at not in used and (manifest.options.keep_extra or name in where):
            further.setdefault(name, at)
    return tuple((at, name) for name, at in further.items())

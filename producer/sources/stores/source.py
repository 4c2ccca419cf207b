"""What a source in a store is: one manifest or several, an image, or all images below a prefix."""

from collections.abc import Iterator

from producer.sources.base import Part, Problem, Row
from producer.sources.choose import meeting
from producer.sources.manifests.formats import manifest_reader
from producer.sources.manifests.manifest import Manifest, ManifestReader
from producer.sources.options import ReadOptions
from producer.sources.stores.listing import list_below
from producer.sources.stores.pattern import is_pattern, pattern_of
from producer.sources.stores.prefix import hidden_part, read_prefix
from tagmill.errors import InputError
from tagmill.images.image import SUFFIXES
from tagmill.locations.redact import shown_uri
from tagmill.locations.schemes import StoredLocation, parse_stored
from tagmill.stores.remote_file import open_remote
from tagmill.text import normalize


def stored_parts(source: str, options: ReadOptions) -> Iterator[Part]:
    """Yield what a source in a store is read as. Raise OSError if it cannot be read."""
    try:
        location = parse_stored(source)
    except ValueError as error:
        shown = shown_uri(source)
        yield Part(shown, iter((Problem(shown, str(error)),)))
        return
    if reader := _reader(location, options):
        yield from _manifests(location, reader, options)
    elif _is_image(location):
        yield Part(source, meeting(_read_image(location), options))
    else:
        yield Part(source, meeting(read_prefix(pattern_of(location)), options))


def is_prefix(source: str, options: ReadOptions) -> bool:
    """Return whether a source in a store is no manifest and no image, but what is below a prefix."""
    location = parse_stored(source)
    return _reader(location, options) is None and not _is_image(location)


def stored_root(source: str, options: ReadOptions) -> str:
    """Return the prefix that workers may read for a source. Raise InputError if the source is no location."""
    try:
        location = parse_stored(source)
    except ValueError as error:
        raise InputError(f"{shown_uri(source)}: {error}") from None
    if _reader(location, options):
        return str(pattern_of(location).prefix if is_pattern(location) else _folder(location))
    return source if _is_image(location) else str(pattern_of(location).prefix)


def _reader(location: StoredLocation, options: ReadOptions) -> ManifestReader | None:
    name = location.key.rpartition("/")[2]
    return None if name in {"", "**"} else manifest_reader(name, options)


def _is_image(location: StoredLocation) -> bool:
    return not is_pattern(location) and location.key.lower().endswith(SUFFIXES)


def _folder(location: StoredLocation) -> StoredLocation:
    return location._replace(key=location.key[: location.key.rfind("/") + 1])


def _manifests(location: StoredLocation, reader: ManifestReader, options: ReadOptions) -> Iterator[Part]:
    nothing = True
    for found in _matching(location) if is_pattern(location) else (location,):
        nothing = False
        base = str(_folder(found)).rstrip("/")
        yield Part(str(found), reader(Manifest(str(found), str(found), base, options)))
    if nothing:
        problem = Problem(str(location), "no object matches", empty=True)
        yield Part(str(location), iter((problem,)))


def _matching(location: StoredLocation) -> Iterator[StoredLocation]:
    pattern = pattern_of(location)
    for name in list_below(pattern.prefix):
        if pattern.matches(name) and not hidden_part(name):
            yield location._replace(key=f"{pattern.prefix.key}{name}")


def _read_image(location: StoredLocation) -> Iterator[Row | Problem]:
    with open_remote(location):  # raises if it is not there
        pass
    yield Row(0, normalize(location.segments[-1]), str(location))

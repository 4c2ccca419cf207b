"""Choose the reader of a source, and split a source of several manifests into them."""

from collections.abc import Iterator
from pathlib import Path

from producer.sources.base import Part, Problem, Row, Skipped, reason_of
from producer.sources.choose import meeting
from producer.sources.folder import read_folder
from producer.sources.image_file import read_image_file
from producer.sources.manifests.formats import MANIFEST_READERS, is_file, label_of, manifest_of, manifest_reader
from producer.sources.manifests.manifest import ManifestError
from producer.sources.metadata_folder import metadata_parts
from producer.sources.options import ReadOptions
from producer.sources.stores.source import stored_parts
from tagmill.images.image import SUFFIXES
from tagmill.locations.disk_spelling import DiskSpelling
from tagmill.locations.redact import shown_uri
from tagmill.locations.schemes import STORED, is_stored, url_scheme

#: why a URL is no source
NO_SOURCE = f"cannot be a source; name a path, or one of {', '.join(f'{scheme}://' for scheme in sorted(STORED))}"


def on_disk(source: str) -> str:
    """Return a source as the disk spells it."""
    return DiskSpelling().find(source) if is_file(source) else source


def parts_of(source: str, options: ReadOptions) -> Iterator[Part]:
    """Yield what a source is read as: itself, or the metadata files of a folder. Problems are among the items."""
    label = label_of(source)
    try:
        for part in _open(source, on_disk(source), options):
            yield Part(part.label, _guarded(part))
    except OSError as error:
        yield Part(label, iter((Problem(label, f"cannot be read: {reason_of(error)}"),)))


def _open(source: str, found: str, options: ReadOptions) -> Iterator[Part]:
    path = Path(found)
    if is_stored(source):
        yield from stored_parts(source, options)
    elif url_scheme(source):
        yield Part(shown_uri(source), iter((Problem(shown_uri(source), NO_SOURCE),)))
    elif is_file(source) and path.is_dir():
        parts = metadata_parts(found, options)
        yield from parts or (Part(source, meeting(read_folder(found), options)),)
    elif is_file(source) and not path.is_file():
        yield Part(source, iter((Problem(repr(source), "no such file or folder"),)))
    elif reader := manifest_reader(found, options):
        yield Part(label_of(source), reader(manifest_of(found, options)))
    elif path.suffix.lower() in SUFFIXES:
        yield Part(source, meeting(read_image_file(found), options))
    else:
        known = ", ".join((*MANIFEST_READERS, *SUFFIXES))
        message = f"is neither a folder nor a file with one of the suffixes {known}; say what it is with --format"
        yield Part(source, iter((Problem(source, message),)))


def _guarded(part: Part) -> Iterator[Row | Problem | Skipped]:
    """Yield the items of a part, and why it cannot be read further."""
    try:
        yield from part.items
    except ManifestError as error:
        yield Problem(part.label, str(error))
    except OSError as error:
        yield Problem(part.label, f"cannot be read: {reason_of(error)}")

"""What every reader of a source yields: rows before their checks, and problems."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tagmill.text import is_utf8

#: characters
MAX_KEY_LENGTH = 512
#: characters, after a relative uri was made absolute
MAX_URI_LENGTH = 4096


class Row(NamedTuple):
    """An entry before its checks; `line` is 0 for a source without lines or rows."""

    line: int
    image_key: str
    uri: str
    #: the further columns of its manifest, as the text of a JSON object
    extra: str | None = None


@dataclass(frozen=True)
class Problem:
    """Why an entry or a whole source cannot be used; `place` is FILE:LINE, a file, or a source."""

    place: str
    message: str
    #: the source holds no entry at all
    empty: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Skipped(NamedTuple):
    """A file below a folder that is no entry, with its kind: see `tagmill.images.file_names`."""

    kind: str
    name: str


class Part(NamedTuple):
    """A source, or one of the manifests that it consists of."""

    #: what problems call it
    label: str
    items: Iterator[Row | Problem | Skipped]


def problem_with(row: Row) -> str | None:
    """Return why SQL cannot store the row, or None if it can."""
    if len(row.image_key) > MAX_KEY_LENGTH:
        key = shorten(row.image_key)
        return f"image_key has {len(row.image_key)} characters, allowed are {MAX_KEY_LENGTH}: {key}"
    if len(row.uri) > MAX_URI_LENGTH:
        # Without an excerpt: a URL may hold a password.
        return f"uri of {shorten(row.image_key)} has {len(row.uri)} characters, allowed are {MAX_URI_LENGTH}"
    # SQL can store neither of them.
    if "\0" in row.image_key or "\0" in row.uri:
        return f"holds a NUL character: {shorten(row.image_key)}"
    if not is_utf8(row.image_key):
        return f"image_key is not UTF-8: {shorten(row.image_key)}"
    if not is_utf8(row.uri):
        return f"the file name is not UTF-8, rename it: {shorten(row.uri)}"
    return None


def folder_of(path: Path) -> Path:
    """Return the resolved folder of an existing file. Raise OSError if the file does not exist."""
    path.stat()  # its error names the missing file, not the folder
    return path.parent.resolve(strict=True)


def shorten(text: str) -> str:
    """Return the repr of the text, of at most 100 characters."""
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}…"


def reason_of(error: Exception) -> str:
    """Return the message of an error, without the file name that an OSError adds."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

"""What every kind of source yields: entries before their checks, and problems."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: characters
MAX_KEY_LENGTH = 512


#: characters, after a relative uri was made absolute
MAX_URI_LENGTH = 4096


@dataclass(frozen=True)
class Problem:
    """Why an entry or a whole source cannot be used; `place` is FILE:LINE, a file, or a source."""

    place: str
    message: str
    #: the source holds no entry at all
    empty: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class _Row(NamedTuple):
    """An entry before its checks; `line` is 0 outside a manifest."""

    line: int
    image_key: str
    uri: str


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


def _folder_of(path: Path) -> Path:
    path.stat()  # names a missing file instead of its folder
    return path.parent.resolve(strict=True)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}…"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

"""Names in one spelling, and text that is safe for terminals, pages and databases.

Python represents bytes of a file name that are not UTF-8 as surrogates, which no encoder accepts.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tagmill.errors import InputError

#: Unicode categories that are refused: control, surrogate, line separator, paragraph separator
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})

#: what a terminal obeys instead of showing it: control characters but line feeds, separators of lines, surrogates, and
#: what turns the direction of text
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: cut off the ends of every field: all white space of Unicode, and characters of no width, such as a byte order mark
_BLANK = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + (
    "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)


def trim(text: str) -> str:
    """Return the text without white space and invisible characters at its ends."""
    return text.strip() if text.isascii() else text.strip(_BLANK)


def normalize(text: str) -> str:
    """Return a key, label or name in its one spelling: trimmed, in NFC.

    A Mac and some keyboards write an accented letter or a Hangul syllable as several characters (NFD), which look the
    same.
    """
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text.strip(_BLANK))


def is_utf8(text: str) -> bool:
    """Return whether the text can be encoded: a file name may hold bytes that are not UTF-8."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def legible(text: str) -> str:
    """Return the text on one line, with refused characters as escapes such as `\\x1b`."""
    return "".join(char.encode("unicode_escape").decode() if _is_refused(char) else char for char in text)


def on_terminal(text: str) -> str:
    """Return the text as a terminal may get it: what would be obeyed instead of shown are escapes such as `\\x1b`."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def utc_time(seconds: float) -> str:
    """Return a time of Unix seconds for people, such as 2026-05-03 14:15:16, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def person(user: str, host: str) -> str:
    """Return who did something, on one line: USER@HOST."""
    return legible(f"{user}@{host}")


def require_legible(labels: Iterable[str], place: object) -> None:
    """Raise InputError for a label that the report at the end of a training could not show."""
    for label in labels:
        if any(map(_is_refused, label)):
            raise InputError(
                f"{place}: category {legible(label)} has a control character or bytes that are not UTF-8 in its name; "
                "rename it"
            )


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in _REFUSED


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the names and values of nested settings, a name as `outer.inner`."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{path}.")
        else:
            pairs.append((path, "none" if value is None else str(value)))
    return pairs

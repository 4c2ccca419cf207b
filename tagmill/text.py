"""Text that is safe for terminals, pages and databases: no control characters, no bytes that are not UTF-8.

Python represents such bytes in a file name as surrogates, which no encoder accepts.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from tagmill.errors import InputError

#: Unicode categories that are refused: control, surrogate, line separator, paragraph separator
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def legible(text: str) -> str:
    """Return the text on one line, with refused characters as escapes such as `\\x1b`."""
    return "".join(char.encode("unicode_escape").decode() if _is_refused(char) else char for char in text)


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

"""Text that terminals, pages and databases take: without control characters, and without bytes that are not UTF-8.

Python has such bytes of a file's name as surrogates, which no encoder takes.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from tagmill.errors import InputError

#: what a character may not be: control, surrogate, line separator, paragraph separator
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def legible(text: str) -> str:
    """Return the text on one line, with what cannot be shown in escapes such as `\\x1b`."""
    return "".join(one.encode("unicode_escape").decode() if _refused(one) else one for one in text)


def require_legible(labels: Iterable[str], place: object) -> None:
    """Raise InputError for a label that no report could show once the training is over."""
    for label in labels:
        if any(map(_refused, label)):
            raise InputError(
                f"{place}: category {legible(label)} has a control character or bytes that are not UTF-8 in its name; "
                "rename it"
            )


def _refused(character: str) -> bool:
    return unicodedata.category(character) in _REFUSED


def flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Return the names and values of nested settings; a name holds those above it."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        whole = f"{above}{name}"
        if isinstance(value, Mapping):
            found += flat(value, f"{whole}.")
        else:
            found.append((whole, "none" if value is None else str(value)))
    return found

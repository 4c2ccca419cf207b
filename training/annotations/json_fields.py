"""Read JSON annotation files, and raise an error that names the field that is missing or wrong."""

import json
from pathlib import Path
from typing import Any, TypeVar

from tagmill.errors import InputError

Kind = TypeVar("Kind", int, str, list[Any], dict[str, Any])

#: wrong entries that are named; the others are counted
NAMED = 3

_KIND_NAMES: dict[type, str] = {int: "a whole number", str: "text", list: "a list", dict: "an object"}


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raise InputError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply to describe images") from error


def field(entry: Any, name: str, kind: type[Kind], place: str) -> Kind:
    """Return a field of a JSON object. Raise InputError if it is missing or of another type."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{place}: has no {name}, or it is not {_KIND_NAMES[kind]}")
    return value


class LeftOut:
    """Entries of an annotation file that are wrong. They are left out, named and counted."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._errors: list[InputError] = []

    def add(self, error: InputError) -> None:
        """Remember why an entry is left out."""
        self._errors.append(error)

    def raise_first(self) -> None:
        """Raise the first error, if there is any: for a file in which no entry is right."""
        if self._errors:
            raise self._errors[0]

    def notes(self) -> tuple[str, ...]:
        """Return a message that counts the entries and names the first of them, or nothing."""
        if not self._errors:
            return ()
        named = "; ".join(str(error).removeprefix(f"{self._path}: ") for error in self._errors[:NAMED])
        more = f"; and {len(self._errors) - NAMED} more" if len(self._errors) > NAMED else ""
        return (f"{self._path}: {len(self._errors)} {self._what} are wrong and left out: {named}{more}",)

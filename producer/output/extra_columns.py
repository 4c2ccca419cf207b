"""The further columns of manifests in results: their names, kinds and values."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tagmill.extra import parse_extra, text_of

#: in front of the name of a column that results have, too
PREFIX = "extra."


class Kind(StrEnum):
    """What the values of a column are in all images."""

    #: true or false
    BOOLEAN = "boolean"
    #: a whole number of at most 18 digits
    INTEGER = "integer"
    #: any number
    NUMBER = "number"
    #: text, or values of several kinds, which are written as text
    TEXT = "text"


@dataclass(frozen=True)
class ExtraColumn:
    """A further column of a manifest."""

    name: str
    kind: Kind = Kind.TEXT


def columns_of(found: Iterable[tuple[str, str]], first: Iterable[str] = ()) -> tuple[ExtraColumn, ...]:
    """Return the columns of values of which name and JSON kind are `found`: those of `first`, then the others by name.

    JSON kinds are `string`, `integer`, `number`, `boolean`, `array`, `object` and `null`.
    """
    kinds: dict[str, set[str]] = {}
    for name, kind in found:
        kinds.setdefault(name, set()).add(kind)
    order = [*(name for name in dict.fromkeys(first) if name in kinds), *sorted(kinds)]
    return tuple(ExtraColumn(name, _kind(kinds[name] - {"null"})) for name in dict.fromkeys(order))


def titles(columns: Iterable[ExtraColumn], taken: Collection[str]) -> dict[str, str]:
    """Return name -> title of each column: its name, or `extra.NAME` if `taken` or another title holds that."""
    titled: dict[str, str] = {}
    used = set(taken)
    for column in columns:
        title = column.name
        while title in used:
            title = PREFIX + title
        used.add(title)
        titled[column.name] = title
    return titled


def typed(value: Any, kind: Kind) -> Any:
    """Return a value for a column of one kind, or None."""
    if value is None or kind in {Kind.BOOLEAN, Kind.INTEGER}:
        return value
    return float(value) if kind is Kind.NUMBER else text_of(value)


def _kind(kinds: Collection[str]) -> Kind:
    if kinds == {"boolean"}:
        return Kind.BOOLEAN
    if kinds == {"integer"}:
        return Kind.INTEGER
    return Kind.NUMBER if kinds and set(kinds) <= {"integer", "number"} else Kind.TEXT


def cells(extra: str | None, columns: Sequence[ExtraColumn]) -> list[str]:
    """Return the values of an image as text, one per column."""
    values = parse_extra(extra)
    return [text_of(values.get(column.name)) for column in columns]

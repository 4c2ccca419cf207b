"""Conditions on entries, as `--where` takes them: on image_key, uri and the further columns of a manifest."""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tagmill.errors import InputError
from tagmill.extra import parse_extra, text_of
from tagmill.text import normalize

#: what `--where` takes, for help texts and errors
SYNTAX = "NAME=VALUE, NAME!=VALUE, NAME<VALUE, NAME<=VALUE, NAME>VALUE, NAME>=VALUE, NAME~REGEX, NAME or !NAME"

_EXPRESSION = re.compile(r'\s*(!?)\s*(?:"([^"]+)"|([^"!=<>~]+))\s*(?:(!=|<=|>=|=|<|>|~)(.*))?', re.DOTALL)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]{0,300})?(?:[eE][+-]?[0-9]{1,3})?")
#: texts such as 007 are codes: they equal themselves alone
_CODE = re.compile(r"[+-]?0[0-9]")


@dataclass(frozen=True)
class Condition:
    """A test of one column; it gets the column's JSON value, None if an entry lacks the column."""

    name: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Where:
    """Conditions that all hold for a chosen entry. Without conditions, every entry is chosen."""

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, expressions: Iterable[str]) -> "Where":
        """Return the conditions of these expressions. Raise InputError, which names the one that cannot be read."""
        return cls(tuple(map(_parse, expressions)))

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @property
    def columns(self) -> frozenset[str]:
        """The further columns that the conditions are on."""
        return frozenset(condition.name for condition in self.conditions) - {"image_key", "uri"}

    def matches(self, image_key: str, uri: str, extra: str | None) -> bool:
        """Return whether all conditions hold for an entry; `extra` is its further columns as JSON text."""
        if not self.conditions:
            return True
        columns = parse_extra(extra) if self.columns else {}
        columns |= {"image_key": image_key, "uri": uri}
        return all(condition.holds(columns.get(condition.name)) for condition in self.conditions)


def _parse(expression: str) -> Condition:
    found = _EXPRESSION.fullmatch(expression)
    name = normalize(found[2] or found[3]) if found else ""
    if not found or not name or (found[1] and found[4]):
        raise InputError(f"--where {expression!r} is no condition; write {SYNTAX}. Quote an odd name: '\"a=b\"=1'")
    if not found[4]:
        return Condition(name, _is_empty if found[1] else _is_filled)
    return Condition(name, _test(expression, found[4], found[5].strip()))


def _test(expression: str, symbol: str, value: str) -> Callable[[Any], bool]:
    if symbol == "~":
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise InputError(f"--where {expression!r} holds no regular expression: {error}") from error
        return lambda found: pattern.search(text_of(found)) is not None
    if symbol == "=":
        return partial(_equals, value)
    if symbol == "!=":
        return lambda found: not _equals(value, found)
    if not value:
        raise InputError(f"--where {expression!r} compares with nothing; write a value behind {symbol}")
    number = _number(value)
    compare = _ORDERS[symbol]
    if number is None:
        return lambda found: found is not None and compare(text_of(found), value)
    return lambda found: (other := _number(text_of(found))) is not None and compare(other, number)


def _equals(value: str, found: Any) -> bool:
    text = text_of(found)
    if text == value:
        return True
    if _CODE.match(text) or _CODE.match(value):
        return False
    number = _number(value)
    return number is not None and number == _number(text)


def _number(text: str) -> int | float | None:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _is_filled(found: Any) -> bool:
    return not _is_empty(found)


def _is_empty(found: Any) -> bool:
    return found is None or found in ([], {}) or (isinstance(found, str) and not found.strip())

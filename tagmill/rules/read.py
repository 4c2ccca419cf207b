"""Read rule sets: the built-in ones, and files of the same form."""

import math
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tagmill.errors import InputError
from tagmill.rules.measures import MEASURES, PRODUCT_COPIES
from tagmill.rules.rule import Comparison, Rule, RuleSet, Severity

_FOLDER = Path(__file__).parent / "sets"
_SET_FIELDS = {"name", "title", "source", "date", "rule"}
_RULE_FIELDS = {"id", "severity", "measure", *Comparison, "product", "detail"}


def built_in() -> tuple[str, ...]:
    """Return the names of the built-in sets."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def read_rules(name_or_file: str) -> RuleSet:
    """Return a built-in set by its name, or the set in a TOML file.

    Raise InputError, which names the file, the line or the rule, and what is wrong there.
    """
    if name_or_file in built_in():
        return parse(_FOLDER / f"{name_or_file}.toml")
    path = Path(name_or_file)
    if not path.is_file():
        raise InputError(f"--rules {name_or_file}: neither a file nor one of {', '.join(built_in())}")
    return parse(path)


def parse(path: Path) -> RuleSet:
    """Return the rule set in a TOML file."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:  # says the line
        raise InputError(f"{path}: is not TOML: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    _require_fields(f"{path}", data, _SET_FIELDS)
    name = _text(f"{path}", data, "name")
    found = data.get("rule")
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{path}: holds no rules; write each as a table [[rule]]")
    rules = tuple(map(partial(_rule, path, name), range(1, len(found) + 1), found))
    ids = [rule.rule for rule in rules]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise InputError(f"{path}: two rules have the id {twice!r}")
    title, source, date = (str(data.get(field, "")) for field in ("title", "source", "date"))
    return RuleSet(name, title, source, date, rules)


def _rule(path: Path, rule_set: str, number: int, data: Mapping[str, Any]) -> Rule:
    where = f"{path}: rule {number} ({data.get('id', 'without id')})"
    _require_fields(where, data, _RULE_FIELDS)
    bounds = [comparison for comparison in Comparison if comparison in data]
    if len(bounds) != 1:
        raise InputError(f"{where}: needs one of {' and '.join(Comparison)}")
    bound = data[bounds[0]]
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
        raise InputError(f"{where}: {bounds[0]} is no number: {bound!r}")
    measure, severity = _text(where, data, "measure"), data.get("severity", Severity.ERROR.value)
    if measure not in MEASURES:
        raise InputError(f"{where}: measure {measure!r} is not known; choose from: {', '.join(MEASURES)}")
    if severity not in set(Severity):
        raise InputError(f"{where}: severity {severity!r} is not known; choose from: {', '.join(Severity)}")
    product = data.get("product")
    if product is not None and (measure != PRODUCT_COPIES or not isinstance(product, str) or '"' in product):
        raise InputError(f"{where}: product is the name of a column, and goes with the measure {PRODUCT_COPIES} alone")
    rule_id, detail = _text(where, data, "id"), _text(where, data, "detail")
    return Rule(rule_set, rule_id, Severity(severity), measure, bounds[0], float(bound), product, detail)


def _require_fields(where: str, data: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(data) - known):
        raise InputError(f"{where}: {unknown[0]!r} is not known; choose from: {', '.join(sorted(known))}")


def _text(where: str, data: Mapping[str, Any], field: str) -> str:
    value = data.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {field} is missing; write it as a text")
    if field in ("id", "name") and len(value) > 100:
        raise InputError(f"{where}: {field} is longer than 100 characters")
    return value

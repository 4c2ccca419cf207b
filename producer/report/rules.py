"""What the page says of the rules that a run's pictures break: the built-in sets of marketplaces."""

from typing import Any, NamedTuple

from sqlalchemy import Engine

from producer.output.read.found import any_measured
from producer.report.rows import shown_key
from tagmill.rules.read import built_in, read_rules
from tagmill.rules.rule import Rule, Severity
from tagmill.search.violations import count_measured, count_violations

#: pictures that are shown of a rule
EXAMPLES = 8


class Broken(NamedTuple):
    """A rule that pictures break."""

    rule: Rule
    error: bool
    pictures: int
    #: keys, as they are in the rows of the images
    examples: tuple[str, ...]


class CheckedSet(NamedTuple):
    """A rule set with the rules that are broken, errors first."""

    title: str
    broken: tuple[Broken, ...]
    rules: int


def rule_values(engine: Engine, run_id: int) -> dict[str, Any]:
    """Return the values of the section's template; without measured pictures there is no section."""
    measured, with_text = count_measured(engine, run_id) if any_measured(engine) else (0, 0)
    if not measured:
        return {"checked": ()}
    sets = [read_rules(name) for name in built_in()]
    counts = count_violations(engine, [rule for found in sets for rule in found.rules], run_id, EXAMPLES)
    broken = [
        Broken(one.rule, one.rule.severity is Severity.ERROR, one.pictures, tuple(map(shown_key, one.examples)))
        for one in counts
        if one.pictures
    ]
    checked = [
        CheckedSet(found.title, tuple(one for one in broken if one.rule.rule_set == found.name), len(found.rules))
        for found in sets
    ]
    return {"checked": checked, "measured": measured, "measured_text": with_text}

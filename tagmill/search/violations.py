"""Read which pictures break which rules. The rules are applied as they are read: nothing is stored of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.db.views.pictures import given_rules, violations
from tagmill.errors import InputError
from tagmill.locations.redact import shown_uri
from tagmill.rules.rule import Rule, Severity


@dataclass(frozen=True)
class Violation:
    """A picture that breaks a rule."""

    image_key: str
    uri: str
    rule_set: str
    rule: str
    severity: Severity
    measure: str
    measured: float
    bound: float
    detail: str


@dataclass(frozen=True)
class RuleCount:
    """How many pictures break a rule, and the first of them by key."""

    rule: Rule
    pictures: int
    examples: tuple[str, ...]


def read_violations(
    engine: Engine, rules: Sequence[Rule], run_id: int | None = None, full_urls: bool = False
) -> Iterator[Violation]:
    """Yield the violations of `rules` by the pictures that the catalog shows, or by those of a run, by key."""
    statement, values = _statement(engine, rules, run_id)
    with reading(engine) as connection:
        ordered = text(f"{statement} ORDER BY image_key, rule_set, rule")
        for row in connection.execution_options(yield_per=1000).execute(ordered, values):
            yield Violation(
                row.image_key,
                row.uri if full_urls else shown_uri(row.uri),
                *(row.rule_set, row.rule, Severity(row.severity), row.measure, float(row.measured)),
                *(float(row.bound), row.detail),
            )


def count_violations(
    engine: Engine, rules: Sequence[Rule], run_id: int | None = None, examples: int = 3
) -> list[RuleCount]:
    """Return how many pictures break each of `rules`, with the first keys: errors first, then the most broken.

    The report of a run reads it, too.
    """
    statement, values = _statement(engine, rules, run_id)
    numbered = f"""
        SELECT rule_set, rule, image_key, count(*) OVER (PARTITION BY rule_set, rule) AS pictures,
            row_number() OVER (PARTITION BY rule_set, rule ORDER BY image_key) AS number
        FROM ({statement}) AS broken
    """
    first = text(f"SELECT * FROM ({numbered}) AS numbered WHERE number <= :examples ORDER BY number")
    pictures: dict[tuple[str, str], int] = {}
    keys: dict[tuple[str, str], list[str]] = {}
    with reading(engine) as connection:
        for row in connection.execute(first, values | {"examples": max(1, examples)}):
            pictures[row.rule_set, row.rule] = row.pictures
            keys.setdefault((row.rule_set, row.rule), []).append(row.image_key)
    found = [
        RuleCount(rule, pictures.get((rule.rule_set, rule.rule), 0), tuple(keys.get((rule.rule_set, rule.rule), ())))
        for rule in rules
    ]
    return sorted(found, key=lambda one: (one.rule.severity is not Severity.ERROR, -one.pictures))


def count_measured(engine: Engine, run_id: int | None = None) -> tuple[int, int]:
    """Return how many pictures were measured, and in how many of them text was looked for.

    Raise InputError if there is no such run.
    """
    view, where, values = _source(run_id)
    with reading(engine) as connection:
        known = connection.execute(text("SELECT 1 FROM run WHERE id = :run"), {"run": run_id}).first()
        if run_id is not None and known is None:
            raise InputError(f"no run {run_id}; see `tagmill run list`")
        row = connection.execute(text(f"SELECT count(*), count(text_share) FROM {view} {where}"), values).one()
    return int(row[0]), int(row[1])


def _source(run_id: int | None) -> tuple[str, str, dict[str, object]]:
    """Return the view to read, and the condition on it with its values."""
    return ("catalog_pictures", "", {}) if run_id is None else ("run_pictures", "WHERE run_id = :run", {"run": run_id})


def _statement(engine: Engine, rules: Sequence[Rule], run_id: int | None) -> tuple[str, dict[str, object]]:
    view, where, values = _source(run_id)
    dialect = engine.dialect.name
    found = f"SELECT * FROM ({violations(dialect, view, given_rules(dialect))}) AS every {where}"
    return found, {"rules": json.dumps([asdict(rule) for rule in rules])} | values

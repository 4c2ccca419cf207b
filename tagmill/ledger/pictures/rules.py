"""Store rule sets, so that the views apply them."""

from dataclasses import asdict

from sqlalchemy import Engine, delete, insert

from tagmill.db.schema import picture_rule
from tagmill.rules.rule import RuleSet


def store_rules(engine: Engine, rules: RuleSet) -> None:
    """Replace the stored rules of this set's name."""
    with engine.begin() as connection:
        connection.execute(delete(picture_rule).where(picture_rule.c.rule_set == rules.name))
        connection.execute(insert(picture_rule), [asdict(rule) for rule in rules.rules])

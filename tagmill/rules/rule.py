"""A rule, and a set of rules."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What a broken rule means."""

    #: the marketplace refuses the picture
    ERROR = "error"
    #: the picture sells worse, or a person should look at it
    WARNING = "warning"


class Comparison(StrEnum):
    """How a measure is compared with the limit of a rule."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"


@dataclass(frozen=True)
class Rule:
    """A limit of one measure."""

    rule_set: str
    rule: str
    severity: Severity
    #: a name of `tagmill.rules.measures.MEASURES`
    measure: str
    comparison: Comparison
    bound: float
    #: of `product_copies`: the column of the entries that names the product
    product: str | None
    #: what a person reads
    detail: str

    def is_broken_by(self, value: float | None) -> bool:
        """Return whether a value breaks the rule; one that is unknown does not."""
        if value is None:
            return False
        return value < self.bound if self.comparison is Comparison.AT_LEAST else value > self.bound


@dataclass(frozen=True)
class RuleSet:
    """The rules of one marketplace or shop."""

    name: str
    title: str
    #: where the rules are from, and when they were read there
    source: str
    date: str
    rules: tuple[Rule, ...]

"""Count the entries of a run, and of the largest groups that a further column makes of them."""

from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from producer.output.read.drift.relations import Column, grouping, value_of
from tagmill.db.schema import entry
from tagmill.extra import parse_extra

#: entries of a run whose columns are named where one is missing
_LOOKED_AT = 100

_LARGEST = """
SELECT {value} AS value, count(*) AS entries, count(*) OVER () AS groups
FROM entry WHERE entry.run_id = :run
GROUP BY 1 ORDER BY entries DESC, value LIMIT :most
"""
# A failure has the run and the position that a tagged entry has.
_OUTCOMES = """
SELECT value, sum(tagged) AS tagged, sum(failed) AS failed FROM (
    SELECT {group} AS value, count(*) AS tagged, 0 AS failed
    FROM tagged_entry AS tagged {join} WHERE tagged.run_id = :run {condition} GROUP BY 1
    UNION ALL
    SELECT {group} AS value, 0 AS tagged, count(*) AS failed
    FROM image_failure AS tagged {join} WHERE tagged.run_id = :run {condition} GROUP BY 1
) AS counted
GROUP BY value
"""


@dataclass(frozen=True)
class Largest:
    """The largest groups of a run by a column, and how many groups there are."""

    #: value of the column -> its entries; None stands for entries without a value
    entries: dict[str | None, int]
    groups: int

    @property
    def has_column(self) -> bool:
        """Whether any entry has a value."""
        return any(value is not None for value in self.entries)


@dataclass(frozen=True)
class Outcomes:
    """How many images were tagged, and how many failed."""

    tagged: int = 0
    failed: int = 0

    @property
    def failed_share(self) -> float | None:
        """The share of failed images among those with an outcome; None without any."""
        total = self.tagged + self.failed
        return self.failed / total if total else None


def largest_groups(connection: Connection, run_id: int, column: str, most: int) -> Largest:
    """Return the `most` values of a column that the most entries have."""
    statement = text(_LARGEST.format(value=value_of(connection.dialect.name)))
    # Of a group without a value, none is the whole run: two are asked for, so that `has_column` is right.
    rows = connection.execute(statement, {"run": run_id, "column": column, "most": max(most, 2)}).all()
    return Largest({row.value: row.entries for row in rows}, rows[0].groups if rows else 0)


def outcomes(connection: Connection, run_id: int, column: Column) -> dict[str | None, Outcomes]:
    """Return how many images of each group were tagged and failed."""
    by = grouping(connection.dialect.name, column)
    rows = connection.execute(by.statement(_OUTCOMES), {"run": run_id, **by.parameters}).all()
    return {row.value: Outcomes(int(row.tagged), int(row.failed)) for row in rows}


def columns_of(connection: Connection, run_id: int) -> list[str]:
    """Return the names of the further columns that the first entries of a run have."""
    first = select(entry.c.extra).where(entry.c.run_id == run_id).order_by(entry.c.position).limit(_LOOKED_AT)
    return sorted({name for extra in connection.execute(first).scalars() for name in parse_extra(extra)})

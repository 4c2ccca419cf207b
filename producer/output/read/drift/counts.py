"""Count labels and scores of a run, and find the deciles of scores."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from producer.output.read.drift.relations import TAGGED, Column, given, grouping
from tagmill.db.any_of import any_of
from tagmill.db.schema import label_name
from tagmill.registry.models import Model
from tagmill.text import normalize

#: bins of scores, each with as many scores of the reference as the others
DECILES = 10

_EDGES = f"""
SELECT min(score) FROM (
    SELECT {{score}} AS score, ntile({DECILES}) OVER (ORDER BY {{score}}) AS tile
    FROM {TAGGED} {{labels}}
    WHERE tagged.run_id = :run AND {{score}} IS NOT NULL
) AS ranked
WHERE tile > 1 GROUP BY tile ORDER BY tile
"""
_COUNTS = f"""
SELECT {{group}} AS value, {{label}} AS label_id, {{bin}} AS bin, count(*) AS labels
FROM {TAGGED} {{labels}} {{join}}
WHERE tagged.run_id = :run {{condition}}
GROUP BY 1, 2, 3
"""


@dataclass
class Counts:
    """What a model gave to some images."""

    #: label -> how often it was given; None counts images without a label
    labels: Counter[str | None] = field(default_factory=Counter)
    #: label -> bin -> how often it was given with a score of that bin
    scores: dict[str, Counter[int]] = field(default_factory=dict)

    def add(self, label: str | None, number: int | None, count: int) -> None:
        """Add labels of one bin."""
        self.labels[label] += count
        if label is not None and number is not None:
            self.scores.setdefault(label, Counter())[number] += count

    @property
    def all_scores(self) -> Counter[int]:
        """The scores of all labels together."""
        return sum(self.scores.values(), Counter())


def score_edges(connection: Connection, run_id: int, model: Model) -> list[float]:
    """Return the least score of each tenth of the scores of a run but the first, without repetitions, in order.

    A score that many images share, such as 1, gets a bin of its own or begins one.
    """
    of = given(model)
    # SQLite and PostgreSQL have this window function; only PostgreSQL has percentile_disc.
    statement = grouping(connection.dialect.name, None).statement(
        _EDGES.replace("{score}", of.score).replace("{labels}", of.join)
    )
    found = connection.execute(statement, {"run": run_id, "model": model.id}).scalars()
    return sorted(set(map(float, found)))


def count_labels(
    connection: Connection, run_id: int, model: Model, edges: Sequence[float], column: Column | None = None
) -> dict[str | None, Counts]:
    """Return the counts of each group; without a column, those of the whole run are under None.

    A score is in bin N if it is at least `edges[N - 1]` and less than `edges[N]`.
    """
    of, by = given(model), grouping(connection.dialect.name, column)
    limits = {f"edge_{number}": edge for number, edge in enumerate(edges)}
    sql = _COUNTS.replace("{labels}", of.join).replace("{label}", of.label).replace("{bin}", _bin(of.score, limits))
    values = {"run": run_id, "model": model.id, **limits, **by.parameters}
    rows = connection.execute(by.statement(sql), values).all()
    return _collected(rows, dict(label_words(connection, {row.label_id for row in rows})))


def label_words(connection: Connection, ids: set[int | None]) -> Iterator[tuple[int, str]]:
    """Yield the labels of these ids."""
    wanted = [found for found in ids if found is not None]
    named = select(label_name.c.id, label_name.c.name).where(any_of(label_name.c.id, "ids"))
    for number, name in connection.execute(named, {"ids": wanted}):
        yield number, normalize(name)


def _bin(score: str, limits: dict[str, float]) -> str:
    """Return the expression for the number of a score's bin; NULL without a score."""
    if not limits:
        return f"CASE WHEN {score} IS NOT NULL THEN 0 END"
    steps = "".join(f" WHEN {score} < :{name} THEN {number}" for number, name in enumerate(limits))
    return f"CASE WHEN {score} IS NULL THEN NULL{steps} ELSE {len(limits)} END"


def _collected(rows: Sequence[Any], words: dict[int, str]) -> dict[str | None, Counts]:
    groups: dict[str | None, Counts] = {}
    for row in rows:
        label = None if row.label_id is None else words[row.label_id]
        groups.setdefault(row.value, Counts()).add(label, row.bin, row.labels)
    return groups

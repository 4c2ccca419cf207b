"""Count in SQL what two classifiers said of the images that both have a result of, a range of images at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Engine, text

from tagmill.db.connection import look_up_by_index, reading
from tagmill.registry.models import Model

#: bins of scores, each as wide as the others
BINS = 20
#: image ids of one statement
RANGE = 100_000

# Both sides are limited: PostgreSQL does not conclude the one from the other.
_COUNTS = """
SELECT a.label_1 AS label_a, b.label_1 AS label_b, {bin_a} AS bin_a, {bin_b} AS bin_b, count(*) AS images,
    sum(a.score_1) AS sum_a, sum(b.score_1) AS sum_b,
    sum((b.score_1 - a.score_1) * (b.score_1 - a.score_1)) AS squares
FROM result AS a JOIN result AS b ON b.image_id = a.image_id
WHERE a.image_id > :low AND a.image_id <= :high AND b.image_id > :low AND b.image_id <= :high
    AND a.model_id = :a AND b.model_id = :b AND a.label_1 IS NOT NULL AND b.label_1 IS NOT NULL
GROUP BY 1, 2, 3, 4
"""
_BOUNDS = "SELECT min(image_id) AS low, max(image_id) AS high FROM result"


class PairCount(NamedTuple):
    """Images that got a label of each model, with scores of a bin each."""

    label_a: int
    label_b: int
    bin_a: int
    bin_b: int
    images: int
    #: of the scores, and of the squares of their differences
    sum_a: float
    sum_b: float
    squares: float


def count_pairs(engine: Engine, a: Model, b: Model) -> Iterator[PairCount]:
    """Yield what the best labels of two classifiers are; labels are ids of `label_name`. A pair may come repeatedly."""
    statement = text(_COUNTS.format(bin_a=_bin("a.score_1"), bin_b=_bin("b.score_1")))
    with reading(engine) as connection:
        low, high = connection.execute(text(_BOUNDS)).one()
    while low is not None and low <= high:
        values: dict[str, Any] = {"a": a.id, "b": b.id, "low": low - 1, "high": low + RANGE - 1}
        with reading(engine) as connection:
            look_up_by_index(connection)
            rows = connection.execute(statement, values).all()
        yield from (PairCount(*row) for row in rows)
        low += RANGE


def bin_of(score: float) -> int:
    """Return the number of the bin that a score belongs to; a score that is not a number belongs to the first."""
    return min(BINS - 1, int(score * BINS)) if score > 0 else 0


def _bin(score: str) -> str:
    """Return the expression for the number of a score's bin: the two databases round differently."""
    steps = "".join(f" WHEN {score} < {number / BINS} THEN {number - 1}" for number in range(1, BINS))
    return f"CASE{steps} ELSE {BINS - 1} END"

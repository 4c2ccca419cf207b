"""Sum the embeddings of a run, by group: inside PostgreSQL with pgvector, in chunks of flat memory elsewhere."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from producer.output.read.drift.counts import label_words
from producer.output.read.drift.relations import TAGGED, Column, Grouping, given, grouping
from tagmill.db.vectors import vector_code
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named

#: embeddings that are in memory at a time where the database cannot sum them
CHUNK = 10_000

_OF_RUN = f"""
FROM {TAGGED} {{fixed}} JOIN embedding ON embedding.image_id = tagged.image_id AND embedding.model_id = :model {{join}}
WHERE tagged.run_id = :run {{condition}}
"""
# A halfvec would round the mean to 11 bits.
_MEANS = f"""
SELECT {{group}} AS value, {{label}} AS label_id, count(*) AS images, avg(embedding.vector::vector)::real[] AS mean
{_OF_RUN} GROUP BY 1, 2
"""
_VECTORS = f"SELECT {{group}} AS value, {{label}} AS label_id, embedding.vector {_OF_RUN}"
_IS_HALFVEC = """
SELECT count(*) FROM pg_attribute
WHERE attrelid = 'embedding'::regclass AND attname = 'vector' AND atttypid = to_regtype('halfvec')
"""


@dataclass
class VectorSum:
    """The sum of some embeddings."""

    images: int
    #: float64 [D]
    total: NDArray[np.float64]

    def add(self, other: "VectorSum") -> None:
        """Add the embeddings of another sum."""
        self.images += other.images
        self.total = self.total + other.total


#: value of a column, label -> sum; the label is None where the model gives several labels or none
Sums = dict[tuple[str | None, str | None], VectorSum]


def sum_embeddings(connection: Connection, run_id: int, model: Model, column: Column | None = None) -> Sums:
    """Return the sums of the embeddings that a model gave, by group and by the label of a classifier.

    The result is empty if the model gives no embedding.
    """
    by = grouping(connection.dialect.name, column)
    task = task_named(model.task)
    alone = not task.gives_masks and not task.multilabel
    label = given(model).label if alone else "CAST(NULL AS INTEGER)"
    values = {"run": run_id, "model": model.id, **by.parameters}
    postgresql = connection.dialect.name == "postgresql"
    if postgresql and connection.exec_driver_sql(_IS_HALFVEC).scalar_one():
        statement = by.statement(_MEANS.replace("{label}", label))
        rows = connection.execute(statement, values).all()
        found = {(row.value, row.label_id): VectorSum(row.images, row.images * np.array(row.mean)) for row in rows}
    else:
        found = _summed(_vectors(connection, by, label, values), halves=postgresql)
    words = dict(label_words(connection, {label_id for _, label_id in found}))
    return {(value, None if id_ is None else words[id_]): total for (value, id_), total in found.items()}


def _vectors(connection: Connection, by: Grouping, label: str, values: dict[str, Any]) -> Iterator[list[Any]]:
    statement = by.statement(_VECTORS.replace("{label}", label)).execution_options(yield_per=CHUNK)
    yield from map(list, connection.execute(statement, values).partitions(CHUNK))


def _summed(chunks: Iterable[list[Any]], *, halves: bool) -> dict[tuple[str | None, int | None], VectorSum]:
    unpack = vector_code.unpack_halves if halves else vector_code.unpack_floats
    sums: dict[tuple[str | None, int | None], VectorSum] = {}
    for chunk in chunks:
        chunk.sort(key=_order)
        for _, rows in groupby(chunk, _order):
            of_group = list(rows)
            vectors = unpack([bytes(row.vector) for row in of_group])
            part = VectorSum(len(of_group), vectors.sum(axis=0, dtype=np.float64))
            key = (of_group[0].value, of_group[0].label_id)
            sums[key].add(part) if key in sums else sums.setdefault(key, part)
    return sums


def _order(row: Any) -> tuple[bool, str, int]:
    """Return what rows of a group share; NULL has no order in Python."""
    return row.value is None, row.value or "", -1 if row.label_id is None else row.label_id

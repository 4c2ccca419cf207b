"""Which images are referred to: a bit for each image, so that memory is flat."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, func, select, text

from tagmill.db.connection import epoch_now, look_up_by_index, reading
from tagmill.db.schema import batch, batch_outcome, catalog_entry, image_content, repeated_image
from tagmill.ledger.pruning.counts import Report

#: outcomes of batches, and images, that one statement reads
BATCHES, IMAGES = 1_000, 50_000
#: the outcomes of the batches that were done since a time, in two dialects: each run is looked up in an index
_DONE_SINCE = {
    "postgresql": """
        SELECT found.image_ids FROM run CROSS JOIN LATERAL (
            SELECT batch_outcome.image_ids FROM batch JOIN batch_outcome ON batch_outcome.batch_id = batch.id
            WHERE batch.run_id = run.id AND batch.finished_at > :since OFFSET 0
        ) AS found
    """,
    "sqlite": """
        SELECT batch_outcome.image_ids FROM run CROSS JOIN batch CROSS JOIN batch_outcome
        WHERE batch.run_id = run.id AND batch.finished_at > :since AND batch_outcome.batch_id = batch.id
    """,
}
#: seconds by which a database's clock may be set back
_CLOCK_SECONDS = 2.0


class References:
    """The images that outcomes and the catalog refer to, up to the largest id at the start."""

    def __init__(self, limit: int) -> None:
        #: images from this id on are none of ours
        self.limit = limit
        self._bits = np.zeros(limit // 8 + 1, np.uint8)
        #: until when completed batches were looked at, in Unix seconds by the database's clock
        self._until = 0.0

    @classmethod
    def begin(cls, connection: Connection) -> "References":
        """Return references of none yet. No completion may be under way: `tagmill.ledger.pruning.fence.deleting`."""
        limit = connection.execute(select(func.coalesce(func.max(image_content.c.id), 0))).scalar_one()
        found = cls(int(limit))
        found._until = float(connection.execute(select(epoch_now())).scalar_one())
        return found

    def add(self, ids: Iterable[int | None]) -> None:
        """Note that images are referred to."""
        known = np.fromiter((found for found in ids if found is not None and found < self.limit), np.int64)
        np.bitwise_or.at(self._bits, known >> 3, (1 << (known & 7)).astype(np.uint8))

    def unreferenced(self, ids: Sequence[int]) -> list[int]:
        """Return those ids that nothing refers to."""
        asked = np.array(ids, np.int64)
        asked = asked[asked < self.limit]
        free = (self._bits[asked >> 3] >> (asked & 7).astype(np.uint8)) & 1 == 0
        return [int(found) for found in asked[free]]

    def read(self, engine: Engine, report: Report, skipped: Callable[[Any], bool] = lambda row: False) -> None:
        """Add all references. `skipped` says which rows, with a batch's id and run, do not count."""
        total = _total(engine)
        for done, rows in _pages(engine, _outcomes):
            report("reading what runs refer to", done, total)
            for row in rows:
                if not skipped(row):
                    self.add(row.image_ids)
        for statement in (_shown, _repeated):
            for _, rows in _pages(engine, statement):
                self.add(row.image_id for row in rows)

    def add_completed(self, connection: Connection) -> None:
        """Add the references of batches that were completed since the last call, or since the beginning."""
        now = float(connection.execute(select(epoch_now())).scalar_one())
        done = text(_DONE_SINCE[connection.dialect.name]).columns(batch_outcome.c.image_ids)
        for row in connection.execute(done, {"since": self._until - _CLOCK_SECONDS}):
            self.add(row.image_ids)
        self._until = now


def _total(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(batch_outcome)).scalar_one())


def _pages(engine: Engine, page: Callable[[Any], Any]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield the rows of a statement page by page, with how many came before; `page` takes the last row."""
    last: Any = None
    done = 0
    while True:
        with reading(engine) as connection:
            look_up_by_index(connection)
            rows = connection.execute(page(last)).all()
        if not rows:
            return
        yield done, rows
        last, done = rows[-1], done + len(rows)


def _outcomes(last: Any) -> Any:
    columns = (batch_outcome.c.batch_id, batch_outcome.c.image_ids, batch.c.run_id)
    found = select(*columns).join(batch, batch.c.id == batch_outcome.c.batch_id)
    found = found if last is None else found.where(batch_outcome.c.batch_id > last.batch_id)
    return found.order_by(batch_outcome.c.batch_id).limit(BATCHES)


def _shown(last: Any) -> Any:
    found = select(catalog_entry.c.image_id).distinct()
    found = found if last is None else found.where(catalog_entry.c.image_id > last.image_id)
    return found.order_by(catalog_entry.c.image_id).limit(IMAGES)


def _repeated(last: Any) -> Any:
    key = (repeated_image.c.run_id, repeated_image.c.first_position)
    found = select(*key, repeated_image.c.image_id)
    if last is not None:
        later = (key[0] == last.run_id) & (key[1] > last.first_position)
        found = found.where((key[0] > last.run_id) | later)
    return found.order_by(*key).limit(IMAGES)

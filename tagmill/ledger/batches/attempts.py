"""How often a batch may be tried, and when a batch is suspected of killing its worker.

A worker process tags several batches at once (`TAGMILL_CONCURRENCY`). When it dies, the batch to blame is unknown, and
perhaps there is none: each of them counts a crash. After `SUSPECT_CRASHES` crashes a batch is a suspect and runs in a
process of its own, where a death has only one possible cause. If the worker dies while that process runs, the batch is
not to blame: the cause was another one, or somebody killed the worker. So up to `FREE_CRASHES` crashes cost a batch no
attempt. Later ones do, so that every batch ends.
"""

from sqlalchemy import ColumnElement, case

from tagmill.db.schema import batch

#: crashes after which a batch is a suspect
SUSPECT_CRASHES = 2
#: crashes that cost a batch no attempt
FREE_CRASHES = 10


def attempts_left(max_attempts: int, crashes: ColumnElement[int] | None = None) -> ColumnElement[bool]:
    """Return the condition that a batch may be claimed once more.

    `crashes` is its number of crashes if that is not the column's value yet.
    """
    counted = batch.c.crashes if crashes is None else crashes
    free = case((counted > FREE_CRASHES, FREE_CRASHES), else_=counted)
    return batch.c.attempts - free < max_attempts

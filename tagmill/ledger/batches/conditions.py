"""Conditions on batches, written so that the indexes over batches of one status fit whatever is known of the data.

An index with a condition is used only if the statement itself says so: a status that is passed as a parameter is not
known when a statement is planned for any parameter.
"""

from sqlalchemy import ColumnElement, Select, Update, and_, literal_column, or_, select, update

from tagmill.db.connection import epoch_now, first_ids
from tagmill.db.schema import BatchStatus, RunState, batch, run
from tagmill.priority import Priority


def has_status(status: BatchStatus) -> ColumnElement[bool]:
    """Return the condition that a batch has a status."""
    return batch.c.status == literal_column(f"'{status.value}'")


QUEUED = has_status(BatchStatus.QUEUED)
#: the same, for a statement about one run: without the index over the queued batches of all runs, which may be chosen
#: for it otherwise and is read as a whole then
QUEUED_IN_RUN = batch.c.status.concat(literal_column("''")) == literal_column(f"'{BatchStatus.QUEUED.value}'")
RUNNING = has_status(BatchStatus.RUNNING)
#: The time, once for a statement. An index finds what is before it: with a function that may return another value for
#: each row, PostgreSQL would read and compare every batch that is queued.
NOW = select(epoch_now()).scalar_subquery()
#: a worker has claimed it before: it released it, or died
WORKED_ON = and_(QUEUED, batch.c.not_before.is_not(None))
#: the same, and it may be claimed now
WORKED_ON_DUE = and_(WORKED_ON, batch.c.not_before <= NOW)
#: it may be claimed now
DUE = or_(batch.c.not_before.is_(None), batch.c.not_before <= NOW)
#: its producer has not published it yet
UNPUBLISHED = and_(QUEUED, batch.c.published_at.is_(None), batch.c.not_before.is_(None))
#: always true; with it, an index over queue, priority and a time is searched for the time in each priority
OF_ANY_PRIORITY = batch.c.priority.in_([literal_column(str(int(priority))) for priority in Priority])
#: workers may claim the batches of its run
OPEN_RUN = select(run.c.id).where(run.c.id == batch.c.run_id, run.c.state == RunState.OPEN).exists()


def update_unlocked(chosen: Select[tuple[int]]) -> Update:
    """Return an UPDATE of the batches with the ids that `chosen` returns, without those that are locked just now."""
    return update(batch).where(first_ids(batch.c.id, chosen.with_for_update(skip_locked=True, of=batch)))

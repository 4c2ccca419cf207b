"""Finds batches that nobody works on any more: expired leases, lost messages, batches out of attempts."""

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select, update

from tagmill.database import epoch_now
from tagmill.outcome import ErrorCode, ImageStatus
from tagmill.tables import BatchStatus, RunState, batch, run, run_image

#: batches taken up by one look
REAP_LIMIT = 1000


def bury_dead(engine: Engine, queue: str, max_attempts: int) -> int:
    """Give up batches whose last allowed attempt ended without a result; their images get `batch_dead`."""
    worn_out = or_(
        and_(batch.c.status == BatchStatus.RUNNING, batch.c.lease_until < epoch_now()),
        batch.c.status == BatchStatus.QUEUED,
    )
    bury = (
        update(batch)
        .where(worn_out, batch.c.attempts >= max_attempts, _of(queue))
        .values(status=BatchStatus.DEAD, owner=None, lease_until=None, finished_at=epoch_now())
        .returning(batch.c.id, batch.c.error)
    )
    with engine.begin() as connection:
        dead = connection.execute(bury).all()
        for batch_id, error in dead:
            connection.execute(
                update(run_image)
                .where(run_image.c.batch_id == batch_id, run_image.c.status == ImageStatus.PENDING)
                .values(
                    status=ImageStatus.FAILED,
                    error_code=ErrorCode.BATCH_DEAD,
                    error_detail=error or "its worker ended without a word, each time",
                )
            )
    return len(dead)


def requeue_expired(engine: Engine, queue: str, max_attempts: int) -> list[tuple[int, int]]:
    """Put batches whose lease ended back to queued; return (run id, batch id) of each, to be published."""
    ended = and_(
        batch.c.status == BatchStatus.RUNNING,
        batch.c.lease_until < epoch_now(),
        batch.c.attempts < max_attempts,
        _of(queue),
    )
    statement = (
        update(batch)
        .where(batch.c.id.in_(select(batch.c.id).where(ended).limit(REAP_LIMIT)), ended)
        .values(status=BatchStatus.QUEUED, owner=None, lease_until=None, published_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id)
    )
    with engine.begin() as connection:
        return sorted((row.run_id, row.id) for row in connection.execute(statement))


def reclaim_due(engine: Engine, queue: str) -> list[tuple[int, int]]:
    """Return (run id, batch id) of batches that were given back and whose pause is over, marked as published now.

    Nothing was ever published for them, so it does not matter what the queue holds.
    """
    return _publish(engine, and_(_waiting(queue), batch.c.published_at.is_(None), batch.c.not_before.is_not(None)))


def reclaim_lost(engine: Engine, queue: str, grace_seconds: float) -> list[tuple[int, int]]:
    """Return (run id, batch id) of queued batches whose message is overdue, marked as published now.

    Call it only while the queue is empty: then a batch that still waits has no message.
    """
    overdue = func.coalesce(batch.c.published_at, 0.0) < epoch_now() - grace_seconds
    return _publish(engine, and_(_waiting(queue), overdue))


def _publish(engine: Engine, wanted: ColumnElement[bool]) -> list[tuple[int, int]]:
    # One UPDATE decides, so of several reapers one gets each batch.
    statement = (
        update(batch)
        .where(batch.c.id.in_(select(batch.c.id).where(wanted).order_by(batch.c.id).limit(REAP_LIMIT)), wanted)
        .values(published_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id)
    )
    with engine.begin() as connection:
        return sorted((row.run_id, row.id) for row in connection.execute(statement))


def _waiting(queue: str) -> ColumnElement[bool]:
    free = or_(batch.c.not_before.is_(None), batch.c.not_before <= epoch_now())
    return and_(batch.c.status == BatchStatus.QUEUED, free, _of(queue))


def _of(queue: str) -> ColumnElement[bool]:
    """Batches of open runs of this queue: what other workers serve is theirs to look after."""
    return batch.c.run_id.in_(select(run.c.id).where(run.c.state == RunState.OPEN, run.c.queue == queue))

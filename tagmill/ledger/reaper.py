"""Finds batches that nobody works on any more: dead workers, lost messages, batches out of attempts."""

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, insert, not_, or_, select, update

from tagmill.db.connection import epoch_now, insert_ignore, run_once
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, reaper, run, run_image
from tagmill.ledger.attempts import attempts_left
from tagmill.outcomes import ErrorCode, ImageStatus

#: batches taken up by one look
REAP_LIMIT = 1000
#: `batch.error` of a crash
CRASHED = "its worker ended without a word"
#: of batches that were in work before: given back, or taken from a dead worker
_WORKED_ON: ColumnElement[bool] = batch.c.not_before.is_not(None)


def acquire_reaper_lock(engine: Engine, queue: str, seconds: float) -> bool:
    """Return whether the caller is the one to look now; for `seconds` nobody else of this queue is.

    A worker that dies in its turn holds nobody up: the turn ends by itself.
    """
    mine = (
        update(reaper)
        .where(reaper.c.queue == queue, reaper.c.next_look <= epoch_now())
        .values(next_look=epoch_now() + seconds)
    )
    with engine.begin() as connection:
        connection.execute(insert_ignore(connection, reaper), {"queue": queue, "next_look": 0.0})
        return connection.execute(mine).rowcount == 1


def requeue_expired(engine: Engine, queue: str) -> int:
    """Put batches whose lease ended back to queued, each with a crash more; return how many.

    Those of a cancelled run, too: they wait there for `tagmill run retry`, and the run is seen to have ended.
    """
    served = batch.c.run_id.in_(select(run.c.id).where(run.c.queue == queue))
    return _requeue(engine, and_(batch.c.lease_until < epoch_now(), served))


def requeue_owned(engine: Engine, process: str) -> int:
    """Put the batches of a process that is known to be dead back to queued, before their leases end."""
    return _requeue(engine, batch.c.owner.startswith(f"{process}:", autoescape=True))


def mark_dead(engine: Engine, queue: str, max_attempts: int) -> int:
    """Give up queued batches that are out of attempts; their images get `batch_dead`."""
    used_up = and_(batch.c.status == BatchStatus.QUEUED, not_(attempts_left(max_attempts)), _of(queue))
    bury = (
        update(batch)
        .where(batch.c.id.in_(_free(used_up)), used_up)
        .values(status=BatchStatus.DEAD, finished_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id, batch.c.error)
    )
    with engine.begin() as connection:
        dead = connection.execute(bury).all()
        for run_id, batch_id, error in dead:
            _fail_images(connection, run_id, batch_id, error or CRASHED)
    return len(dead)


def reclaim_due(engine: Engine, queue: str) -> list[tuple[int, int]]:
    """Return (run id, batch id) of batches that were given back or lost their worker, marked as published now.

    Nothing was published for them since, so it does not matter what the queue holds.
    """
    return _publish(engine, and_(_waiting(queue), batch.c.published_at.is_(None), _WORKED_ON))


def reclaim_lost(engine: Engine, queue: str, grace_seconds: float) -> list[tuple[int, int]]:
    """Return (run id, batch id) of queued batches whose message is overdue, marked as published now.

    Call it only while the queue is empty: then a batch that still waits has no message.
    """
    return reclaim_before(engine, queue, epoch_now() - grace_seconds)


def reclaim_retries(engine: Engine, queue: str, grace_seconds: float) -> list[tuple[int, int]]:
    """Return (run id, batch id) of batches that were in work before and whose message is overdue, marked as published.

    Call it only while no message of the first priority waits: then a worker took it and died before it claimed.
    """
    overdue = batch.c.published_at < epoch_now() - grace_seconds
    return _publish(engine, and_(_waiting(queue), _WORKED_ON, overdue))


def reclaim_before(engine: Engine, queue: str, moment: float | ColumnElement[float]) -> list[tuple[int, int]]:
    """Return (run id, batch id) of queued batches that were not published since a moment, marked as published now.

    `moment` is in Unix seconds by the database's clock.
    """
    return _publish(engine, and_(_waiting(queue), func.coalesce(batch.c.published_at, 0.0) < moment))


def reclaim_published_between(
    engine: Engine, queue: str, since: float, until: float, *, again: bool
) -> list[tuple[int, int]]:
    """Return (run id, batch id) of queued batches that were published between two moments, marked as published now.

    With `again` those that were in work already, else those that never were. Moments are Unix seconds by the database's
    clock.
    """
    published = and_(batch.c.published_at >= since, batch.c.published_at < until)
    return _publish(engine, and_(_waiting(queue), published, _WORKED_ON if again else not_(_WORKED_ON)))


def _fail_images(connection: Connection, run_id: int, batch_id: int, detail: str) -> None:
    pending = and_(run_image.c.batch_id == batch_id, run_image.c.status == ImageStatus.PENDING)
    failed = {"status": ImageStatus.FAILED, "error_code": ErrorCode.BATCH_DEAD, "error_detail": detail}
    images = connection.execute(update(run_image).where(pending).values(failed)).rowcount
    if images:
        row = {"run_id": run_id, "batch_id": batch_id, "error_code": ErrorCode.BATCH_DEAD, "images": images}
        connection.execute(insert(batch_failure), row)


def _requeue(engine: Engine, lost: ColumnElement[bool]) -> int:
    lost = and_(batch.c.status == BatchStatus.RUNNING, lost)
    statement = (
        update(batch)
        .where(batch.c.id.in_(_free(lost)), lost)
        .values(
            status=BatchStatus.QUEUED,
            owner=None,
            lease_until=None,
            crashes=batch.c.crashes + 1,
            not_before=epoch_now(),
            published_at=None,
            error=CRASHED,
        )
        # SQLite's driver in Python 3.11 counts no rows of a statement that begins with WITH.
        .returning(batch.c.id)
    )
    with engine.begin() as connection:
        return len(connection.execute(statement).all())


def _publish(engine: Engine, wanted: ColumnElement[bool]) -> list[tuple[int, int]]:
    # One UPDATE decides, so of several that publish one gets each batch.
    statement = (
        update(batch)
        .where(batch.c.id.in_(_free(wanted, in_order=True)), wanted)
        .values(published_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id)
    )
    with engine.begin() as connection:
        return sorted((row.run_id, row.id) for row in connection.execute(statement))


def _free(wanted: ColumnElement[bool], *, in_order: bool = False) -> Select[tuple[int]]:
    """Choose batches that nobody else has locked: by its owner, who completes it, or by another that publishes it.

    Nobody waits here, for an owner that is frozen (see `terminate_silent`) or in a deadlock.
    """
    chosen = select(batch.c.id).where(wanted).limit(REAP_LIMIT).with_for_update(skip_locked=True)
    return run_once(chosen.order_by(batch.c.id) if in_order else chosen)


def _waiting(queue: str) -> ColumnElement[bool]:
    free = or_(batch.c.not_before.is_(None), batch.c.not_before <= epoch_now())
    return and_(batch.c.status == BatchStatus.QUEUED, free, _of(queue))


def _of(queue: str) -> ColumnElement[bool]:
    """Batches of open runs of this queue: what other workers serve is theirs to look after."""
    return batch.c.run_id.in_(select(run.c.id).where(run.c.state == RunState.OPEN, run.c.queue == queue))

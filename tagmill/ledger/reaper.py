"""Find batches that no worker works on any more: those of dead workers, of lost messages, and out of attempts.

The `reclaim_*` functions mark batches as published and return them; the caller publishes them.
"""

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, insert, not_, or_, select, update

from tagmill.db.connection import epoch_now, insert_ignore, run_once
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, reaper, run, run_image
from tagmill.ledger.attempts import attempts_left
from tagmill.outcomes import ErrorCode, ImageStatus

#: batches that one call changes
REAP_LIMIT = 1000
#: `batch.error` of a crash
CRASHED = "its worker process died"
#: condition on batches that a worker has claimed before: it released them, or it died
_WORKED_ON: ColumnElement[bool] = batch.c.not_before.is_not(None)


def acquire_reaper_lock(engine: Engine, queue: str, seconds: float) -> bool:
    """Return whether the caller may reap this queue now; if so, no other caller may for `seconds`.

    The lock of a worker that dies ends after that time, so it never blocks the others.
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
    """Set batches whose lease has expired back to queued and count a crash for each; return their number.

    This includes batches of cancelled runs: such a run is then no longer running, and `tagmill run retry` takes them.
    """
    served = batch.c.run_id.in_(select(run.c.id).where(run.c.queue == queue))
    return _requeue(engine, and_(batch.c.lease_until < epoch_now(), served))


def requeue_owned(engine: Engine, process: str) -> int:
    """Set the batches of a process that is known to be dead back to queued, as `requeue_expired` does, at once.

    Return their number.
    """
    return _requeue(engine, batch.c.owner.startswith(f"{process}:", autoescape=True))


def mark_dead(engine: Engine, queue: str, max_attempts: int) -> int:
    """Mark queued batches that are out of attempts as dead; return their number. Their images fail as `batch_dead`."""
    used_up = and_(batch.c.status == BatchStatus.QUEUED, not_(attempts_left(max_attempts)), _of(queue))
    statement = (
        update(batch)
        .where(batch.c.id.in_(_free(used_up)), used_up)
        .values(status=BatchStatus.DEAD, finished_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id, batch.c.error)
    )
    with engine.begin() as connection:
        dead = connection.execute(statement).all()
        for run_id, batch_id, error in dead:
            _fail_images(connection, run_id, batch_id, error or CRASHED)
    return len(dead)


def reclaim_due(engine: Engine, queue: str) -> list[tuple[int, int]]:
    """Mark batches that were released or lost their worker as published now; return their (run id, batch id).

    No message was sent for them since, so it does not matter what the queue holds.
    """
    return _publish(engine, and_(_waiting(queue), batch.c.published_at.is_(None), _WORKED_ON))


def reclaim_lost(engine: Engine, queue: str, grace_seconds: float) -> list[tuple[int, int]]:
    """Mark queued batches whose message is overdue as published now; return their (run id, batch id).

    Call it only while the queue is empty: then a batch that still waits has no message.
    """
    return reclaim_before(engine, queue, epoch_now() - grace_seconds)


def reclaim_retries(engine: Engine, queue: str, grace_seconds: float) -> list[tuple[int, int]]:
    """Mark batches that wait for a retry and whose message is overdue as published now.

    Return their (run id, batch id). Call it only while no message of `Priority.RETRY` waits: then a worker took the
    message and died before it claimed the batch.
    """
    overdue = batch.c.published_at < epoch_now() - grace_seconds
    return _publish(engine, and_(_waiting(queue), _WORKED_ON, overdue))


def reclaim_before(engine: Engine, queue: str, moment: float | ColumnElement[float]) -> list[tuple[int, int]]:
    """Mark queued batches that were last published before `moment`, or never, as published now.

    Return their (run id, batch id). `moment` is in Unix seconds by the database's clock.
    """
    return _publish(engine, and_(_waiting(queue), func.coalesce(batch.c.published_at, 0.0) < moment))


def reclaim_published_between(
    engine: Engine, queue: str, since: float, until: float, *, retries: bool
) -> list[tuple[int, int]]:
    """Mark queued batches that were last published between two moments as published now.

    Return their (run id, batch id). With `retries`, only batches that a worker has claimed before; without, only those
    that none has. Moments are Unix seconds by the database's clock.
    """
    published = and_(batch.c.published_at >= since, batch.c.published_at < until)
    return _publish(engine, and_(_waiting(queue), published, _WORKED_ON if retries else not_(_WORKED_ON)))


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
        # sqlite3 reports no row count for a statement that begins with WITH, so count the rows that it returns.
        .returning(batch.c.id)
    )
    with engine.begin() as connection:
        return len(connection.execute(statement).all())


def _publish(engine: Engine, wanted: ColumnElement[bool]) -> list[tuple[int, int]]:
    # One UPDATE selects and marks, so that each batch goes to only one of several callers.
    statement = (
        update(batch)
        .where(batch.c.id.in_(_free(wanted, in_order=True)), wanted)
        .values(published_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id)
    )
    with engine.begin() as connection:
        return sorted((row.run_id, row.id) for row in connection.execute(statement))


def _free(wanted: ColumnElement[bool], *, in_order: bool = False) -> Select[tuple[int]]:
    """Return the ids of batches that are not locked, either by an owner that completes them or by another publisher.

    Waiting for a lock could mean waiting for a frozen owner (see `terminate_silent`), or a deadlock.
    """
    chosen = select(batch.c.id).where(wanted).limit(REAP_LIMIT).with_for_update(skip_locked=True)
    return run_once(chosen.order_by(batch.c.id) if in_order else chosen)


def _waiting(queue: str) -> ColumnElement[bool]:
    free = or_(batch.c.not_before.is_(None), batch.c.not_before <= epoch_now())
    return and_(batch.c.status == BatchStatus.QUEUED, free, _of(queue))


def _of(queue: str) -> ColumnElement[bool]:
    """Return the condition on batches of open runs of this queue; the workers of other queues look after theirs."""
    return batch.c.run_id.in_(select(run.c.id).where(run.c.state == RunState.OPEN, run.c.queue == queue))

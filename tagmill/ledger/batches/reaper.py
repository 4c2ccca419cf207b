"""Find batches that no worker works on any more: those of dead workers, of lost messages, and out of attempts.

The `reclaim_*` functions mark batches as published and return them; the caller publishes them. Every function is one
transaction over at most `REAP_LIMIT` batches, found in the order of an index. None of them waits for a lock, and a
claim does not wait for theirs (`tagmill.ledger.batches.leases.claim`).
"""

from sqlalchemy import ColumnElement, Connection, Engine, and_, insert, not_, select, update

from tagmill.db.bulk import insert_new
from tagmill.db.connection import epoch_now, insert_ignore, reading
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, image_failure, reaper, run
from tagmill.ledger.batches.attempts import attempts_left
from tagmill.ledger.batches.conditions import (
    DUE,
    NOW,
    OPEN_RUN,
    QUEUED,
    RUNNING,
    WORKED_ON,
    WORKED_ON_DUE,
    update_unlocked,
)
from tagmill.ledger.batches.positions import positions_of
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority

#: batches that one call changes
REAP_LIMIT = 1000
#: batches that one call marks as dead: every image of each gets a row
DEAD_LIMIT = 100
#: `batch.error` of a crash
CRASHED = "its worker process died"


def acquire_reaper_lock(engine: Engine, queue: str, seconds: float) -> bool:
    """Return whether the caller may reap this queue now; if so, no other caller may for `seconds`.

    The lock of a worker that dies ends after that time, so it never blocks the others.
    """
    now = epoch_now()
    # Most askers are too early: they only read, and wait for nobody.
    early = select(reaper.c.queue).where(reaper.c.queue == queue, reaper.c.next_look > now)
    mine = update(reaper).where(reaper.c.queue == queue, reaper.c.next_look <= now).values(next_look=now + seconds)
    with reading(engine, snapshot=False) as connection:
        if connection.execute(early).one_or_none() is not None:
            return False
    with engine.begin() as connection:
        connection.execute(insert_ignore(connection, reaper), {"queue": queue, "next_look": 0.0})
        return connection.execute(mine).rowcount == 1


def requeue_expired(engine: Engine, queue: str) -> int:
    """Set batches whose lease has expired back to queued and count a crash for each; return their number.

    This includes batches of cancelled runs: such a run is then no longer running, and `tagmill run retry` takes them.
    """
    return _requeue(engine, and_(batch.c.queue == queue, batch.c.lease_until < NOW))


def requeue_owned(engine: Engine, process: str) -> int:
    """Set the batches of a process that is known to be dead back to queued, as `requeue_expired` does, at once.

    Return their number.
    """
    return _requeue(engine, batch.c.owner.startswith(f"{process}:", autoescape=True))


def mark_dead(engine: Engine, queue: str, max_attempts: int) -> int:
    """Mark queued batches that are out of attempts as dead; return their number. Their images fail as `batch_dead`."""
    used_up = and_(batch.c.queue == queue, WORKED_ON, not_(attempts_left(max_attempts)), OPEN_RUN)
    chosen = select(batch.c.id).where(used_up).order_by(batch.c.priority, batch.c.not_before).limit(DEAD_LIMIT)
    statement = (
        update_unlocked(chosen)
        .values(status=BatchStatus.DEAD, finished_at=epoch_now())
        .returning(batch.c.run_id, batch.c.id, batch.c.error, batch.c.positions)
        .returning(batch.c.first_position, batch.c.last_position)
    )
    with engine.begin() as connection:
        dead = connection.execute(statement).all()
        for row in dead:
            _fail_images(connection, row.run_id, row.id, positions_of(row), row.error or CRASHED)
    return len(dead)


def abandoned_runs(engine: Engine, queue: str) -> list[int]:
    """Return the open runs of a queue whose producer did not finish publishing them in time, the urgent ones first."""
    late = and_(run.c.publish_until.is_not(None), run.c.publish_until < NOW)
    mine = and_(run.c.queue == queue, run.c.state == RunState.OPEN)
    with reading(engine, snapshot=False) as connection:
        return list(connection.execute(select(run.c.id).where(late, mine).order_by(run.c.priority, run.c.id)).scalars())


def reclaim_due(engine: Engine, queue: str, priority: Priority) -> list[tuple[int, int]]:
    """Mark batches that were released or lost their worker as published now; return their (run id, batch id).

    No message was sent for them since, so it does not matter what the queue holds.
    """
    unsent = and_(WORKED_ON_DUE, batch.c.published_at.is_(None))
    return _reclaim(engine, queue, priority, unsent, batch.c.not_before)


def reclaim_lost(engine: Engine, queue: str, priority: Priority, grace_seconds: float) -> list[tuple[int, int]]:
    """Mark queued batches whose message is overdue as published now; return their (run id, batch id).

    Call it only while the lists of the priority are empty: then a batch that still waits has no message.
    """
    return reclaim_before(engine, queue, priority, NOW - grace_seconds)


def reclaim_retries(engine: Engine, queue: str, priority: Priority, grace_seconds: float) -> list[tuple[int, int]]:
    """Mark batches that wait for a retry and whose message is overdue as published now.

    Return their (run id, batch id). Call it only while no message of the priority's `retry_step` waits: then a worker
    took the message and died before it claimed the batch.
    """
    overdue = batch.c.published_at < NOW - grace_seconds
    return _reclaim(engine, queue, priority, and_(WORKED_ON_DUE, overdue), batch.c.not_before)


def reclaim_before(
    engine: Engine, queue: str, priority: Priority, moment: float | ColumnElement[float]
) -> list[tuple[int, int]]:
    """Mark queued batches that were last published before `moment` as published now; return their (run id, batch id).

    `moment` is in Unix seconds by the database's clock.
    """
    return _reclaim(engine, queue, priority, and_(QUEUED, batch.c.published_at < moment), batch.c.published_at)


def reclaim_published_between(
    engine: Engine, queue: str, priority: Priority, since: float, until: float, *, retries: bool
) -> list[tuple[int, int]]:
    """Mark queued batches that were last published between two moments as published now.

    Return their (run id, batch id). With `retries`, only batches that a worker has claimed before; without, only those
    that none has. Moments are Unix seconds by the database's clock.
    """
    published = and_(QUEUED, batch.c.published_at >= since, batch.c.published_at < until)
    if retries:
        return _reclaim(engine, queue, priority, and_(WORKED_ON_DUE, published), batch.c.not_before)
    return _reclaim(engine, queue, priority, and_(published, batch.c.not_before.is_(None)), batch.c.published_at)


def _requeue(engine: Engine, lost: ColumnElement[bool]) -> int:
    chosen = select(batch.c.id).where(RUNNING, lost).limit(REAP_LIMIT)
    statement = update_unlocked(chosen).values(
        status=BatchStatus.QUEUED,
        owner=None,
        lease_until=None,
        crashes=batch.c.crashes + 1,
        not_before=epoch_now(),
        published_at=None,
        error=CRASHED,
    )
    with engine.begin() as connection:
        return connection.execute(statement).rowcount


def _reclaim(
    engine: Engine, queue: str, priority: Priority, wanted: ColumnElement[bool], order: ColumnElement[float]
) -> list[tuple[int, int]]:
    """Mark the first batches of a queue and priority that fulfill `wanted` as published now.

    Return their (run id, batch id).

    One UPDATE selects and marks, so that each batch goes to only one of several callers.
    """
    waiting = and_(batch.c.queue == queue, batch.c.priority == int(priority), wanted, DUE, OPEN_RUN)
    chosen = select(batch.c.id).where(waiting).order_by(order).limit(REAP_LIMIT)
    statement = update_unlocked(chosen).values(published_at=epoch_now()).returning(batch.c.run_id, batch.c.id)
    with engine.begin() as connection:
        return sorted((row.run_id, row.id) for row in connection.execute(statement))


def _fail_images(connection: Connection, run_id: int, batch_id: int, positions: list[int], detail: str) -> None:
    code = ErrorCode.BATCH_DEAD
    columns = ("run_id", "position", "batch_id", "error_code", "error_detail")
    rows = [(run_id, at, batch_id, code.value, detail) for at in positions]
    insert_new(connection, image_failure, columns, rows)
    failed = {"run_id": run_id, "batch_id": batch_id, "error_code": code, "images": len(rows)}
    connection.execute(insert(batch_failure), failed)

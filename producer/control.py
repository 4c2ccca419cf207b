"""Cancel a run, and take images of it again."""

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from sqlalchemy import Connection, Engine, and_, bindparam, func, or_, select, update

from producer.submit import insert_batches, publish_run
from tagmill.broker import publish
from tagmill.errors import InputError, NothingToDo
from tagmill.outcome import ErrorCode, ImageStatus
from tagmill.reaper import bury_dead, reclaim_lost, requeue_expired
from tagmill.tables import BatchStatus, RunState, batch, run, run_image


def cancel_run(engine: Engine, run_id: int) -> int:
    """Take every waiting batch off; return how many. Batches in work are finished; results stay."""
    with engine.begin() as connection:
        _require(connection, run_id)
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.CANCELLED))
        waiting = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED)
        return connection.execute(update(batch).where(waiting).values(status=BatchStatus.CANCELLED)).rowcount


def retry_run(
    app: Celery, engine: Engine, run_id: int, codes: Sequence[ErrorCode], queue: str, *, failed_only: bool = False
) -> int:
    """Put failed images, and what a cancelled run left, into new batches; return how many images these are.

    With codes just those that failed with one of them, with `failed_only` just failed ones. Raises NothingToDo.
    """
    failed = run_image.c.status == ImageStatus.FAILED
    if codes:
        failed = and_(failed, run_image.c.error_code.in_(codes))
    cancelled = select(batch.c.id).where(batch.c.run_id == run_id, batch.c.status == BatchStatus.CANCELLED)
    # A batch that was in work when its run was cancelled, and then failed, waits in a run that nobody serves.
    stranded = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED, run.c.state == RunState.CANCELLED)
    stranded_ids = select(batch.c.id).join(run, run.c.id == batch.c.run_id).where(stranded)
    left = and_(run_image.c.status == ImageStatus.PENDING, run_image.c.batch_id.in_(cancelled))
    chosen = failed if failed_only or codes else or_(failed, left)
    wanted = select(run_image.c.position).where(run_image.c.run_id == run_id, chosen)
    with engine.begin() as connection:
        batch_size = int(_require(connection, run_id)["batch_size"])
        connection.execute(update(batch).where(batch.c.id.in_(stranded_ids)).values(status=BatchStatus.CANCELLED))
        positions = list(connection.execute(wanted.order_by(run_image.c.position)).scalars())
        if not positions:
            raise NothingToDo(f"run {run_id}: no image to take again; see `tagmill run status {run_id}`")
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.OPEN, queue=queue))
        _rebatch(connection, run_id, positions, batch_size)
    publish_run(app, engine, run_id)
    return len(positions)


def reconcile(app: Celery, engine: Engine, queue: str, max_attempts: int) -> int:
    """Publish every batch that waits or whose worker is gone, whatever the queue holds; return how many.

    Workers do this by themselves as soon as the queue runs dry; a batch that is published twice is tagged once.
    """
    while requeue_expired(engine, queue):
        pass
    bury_dead(engine, queue, max_attempts)
    published = 0
    started = time.monotonic()
    while batches := reclaim_lost(engine, queue, grace_seconds=time.monotonic() - started):
        publish(app, batches)
        published += len(batches)
    return published


def _require(connection: Connection, run_id: int) -> dict[str, Any]:
    parameters = connection.execute(select(run.c.parameters).where(run.c.id == run_id)).scalar_one_or_none()
    if parameters is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    return dict(parameters)


def _rebatch(connection: Connection, run_id: int, positions: Sequence[int], batch_size: int) -> None:
    last = connection.execute(select(func.max(batch.c.seq)).where(batch.c.run_id == run_id)).scalar_one()
    batch_ids = insert_batches(connection, run_id, last + 1, -(-len(positions) // batch_size))
    again = (
        update(run_image)
        .where(run_image.c.run_id == run_id, run_image.c.position == bindparam("at"))
        .values(
            batch_id=bindparam("new_batch"), status=ImageStatus.PENDING, sha256=None, error_code=None, error_detail=None
        )
    )
    connection.execute(
        again,
        [{"at": at, "new_batch": batch_ids[number // batch_size]} for number, at in enumerate(positions)],
    )

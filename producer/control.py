"""Cancel a run, and take images of it again."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update

from producer.submit import insert_batches, publish_run
from tagmill.broker import publish
from tagmill.bulk import update_rows
from tagmill.database import epoch_now, reading
from tagmill.errors import InputError, NothingToDo
from tagmill.outcome import ErrorCode, ImageStatus
from tagmill.reaper import bury_dead, reclaim_before, requeue_expired
from tagmill.tables import BatchStatus, RunState, batch, batch_failure, run, run_image

#: batches whose counts are put right by one statement
COUNT_CHUNK = 1000
#: images moved by one statement
UPDATE_CHUNK = 10_000
_AGAIN = ("batch_id", "status", "sha256", "error_code", "error_detail")


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
    with_failures = select(batch_failure.c.batch_id).where(batch_failure.c.run_id == run_id)
    failed = and_(run_image.c.status == ImageStatus.FAILED, run_image.c.batch_id.in_(with_failures))
    if codes:
        failed = and_(failed, run_image.c.error_code.in_(codes))
    cancelled = select(batch.c.id).where(batch.c.run_id == run_id, batch.c.status == BatchStatus.CANCELLED)
    # A batch that was in work when its run was cancelled, and then failed, waits in a run that nobody serves.
    stranded = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED, run.c.state == RunState.CANCELLED)
    stranded_ids = select(batch.c.id).join(run, run.c.id == batch.c.run_id).where(stranded)
    left = and_(run_image.c.status == ImageStatus.PENDING, run_image.c.batch_id.in_(cancelled))
    chosen = failed if failed_only or codes else or_(failed, left)
    wanted = select(run_image.c.position, run_image.c.batch_id).where(run_image.c.run_id == run_id, chosen)
    with engine.begin() as connection:
        batch_size = int(_require(connection, run_id)["batch_size"])
        connection.execute(update(batch).where(batch.c.id.in_(stranded_ids)).values(status=BatchStatus.CANCELLED))
        images = connection.execute(wanted.order_by(run_image.c.position)).all()
        if not images:
            raise NothingToDo(f"run {run_id}: no image to take again; see `tagmill run status {run_id}`")
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.OPEN, queue=queue))
        _rebatch(connection, run_id, [row.position for row in images], batch_size)
        _count_again(connection, run_id, sorted({row.batch_id for row in images}))
    publish_run(app, engine, run_id)
    return len(images)


def reconcile(app: Celery, engine: Engine, queue: str, max_attempts: int) -> int:
    """Publish every batch that waits or whose worker is gone, whatever the queue holds; return how many.

    Workers do this by themselves as soon as the queue runs dry; a batch that is published twice is tagged once.
    """
    while requeue_expired(engine, queue):
        pass
    bury_dead(engine, queue, max_attempts)
    with reading(engine) as connection:
        now = connection.execute(select(epoch_now())).scalar_one()
    published = 0
    while batches := reclaim_before(engine, queue, now):
        publish(app, batches)
        published += len(batches)
    return published


def _require(connection: Connection, run_id: int) -> dict[str, Any]:
    # Locked: of two that retry or cancel a run at once, the second one sees what the first one did.
    found = select(run.c.parameters).where(run.c.id == run_id).with_for_update(key_share=True)
    parameters = connection.execute(found).scalar_one_or_none()
    if parameters is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    return dict(parameters)


def _rebatch(connection: Connection, run_id: int, positions: Sequence[int], batch_size: int) -> None:
    last = connection.execute(select(func.max(batch.c.seq)).where(batch.c.run_id == run_id)).scalar_one()
    batch_ids = insert_batches(connection, run_id, last + 1, len(positions), batch_size)
    rows = [
        (batch_ids[number // batch_size], ImageStatus.PENDING, None, None, None, run_id, at)
        for number, at in enumerate(positions)
    ]
    for start in range(0, len(rows), UPDATE_CHUNK):
        update_rows(connection, run_image, _AGAIN, ("run_id", "position"), rows[start : start + UPDATE_CHUNK])


def _count_again(connection: Connection, run_id: int, batches: Sequence[int]) -> None:
    """Put the counts of batches right after images were taken out of them."""
    for start in range(0, len(batches), COUNT_CHUNK):
        chosen = batches[start : start + COUNT_CHUNK]
        mine = run_image.c.batch_id.in_(chosen)
        left = select(func.count()).where(run_image.c.batch_id == batch.c.id).scalar_subquery()
        connection.execute(update(batch).where(batch.c.id.in_(chosen)).values(images=left))
        of_these = and_(batch_failure.c.run_id == run_id, batch_failure.c.batch_id.in_(chosen))
        connection.execute(delete(batch_failure).where(of_these))
        key = (run_image.c.run_id, run_image.c.batch_id, run_image.c.error_code)
        failed = select(*key, func.count()).where(mine, run_image.c.status == ImageStatus.FAILED).group_by(*key)
        connection.execute(insert(batch_failure).from_select(list(batch_failure.c.keys()), failed))

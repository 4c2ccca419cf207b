"""Cancel a run, and take images of it again."""

from collections.abc import Sequence

from celery import Celery
from sqlalchemy import Engine, and_, or_, select, update

from producer.submit import publish_run
from tagmill.broker.publish import publish
from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, run, run_image
from tagmill.errors import NothingToDo
from tagmill.ledger.reaper import mark_dead, reclaim_before, requeue_expired
from tagmill.ledger.runs import _count_again, _rebatch, _require
from tagmill.outcomes import ErrorCode, ImageStatus


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
    mark_dead(engine, queue, max_attempts)
    with reading(engine) as connection:
        now = connection.execute(select(epoch_now())).scalar_one()
    published = 0
    while batches := reclaim_before(engine, queue, now):
        publish(app, batches)
        published += len(batches)
    return published

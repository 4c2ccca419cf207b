"""Write a run to SQL in one transaction, then put one small message a batch on the queue."""

from celery import Celery
from sqlalchemy import Engine, and_, func, select, update

from tagmill.broker.message_loss import restore
from tagmill.broker.publish import open_channel, publish
from tagmill.db.connection import epoch_now, reading, run_once
from tagmill.db.schema import BatchStatus, batch, run


def publish_run(app: Celery, engine: Engine, run_id: int) -> int:
    """Put every waiting batch of a run on the queue; return how many wait.

    The batches are marked first: one whose message is then lost is published again by a worker's reaper. A broker that
    lost those of other runs of the queue is filled up before.
    """
    with reading(engine) as connection:
        queue = connection.execute(select(run.c.queue).where(run.c.id == run_id)).scalar_one()
    with open_channel(app) as channel:
        restore(app, channel, engine, queue)
    waiting = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED)
    # What another has locked is being published or claimed by it: to wait for that could be a deadlock.
    free = run_once(select(batch.c.id).where(waiting).with_for_update(skip_locked=True))
    mark = update(batch).where(batch.c.id.in_(free)).values(published_at=epoch_now())
    with engine.begin() as connection:
        found = connection.execute(select(func.count()).where(waiting)).scalar_one()
        marked = connection.execute(mark.returning(batch.c.seq, batch.c.id)).all()
    publish(app, ((run_id, row.id) for row in sorted(marked)))
    return int(found)

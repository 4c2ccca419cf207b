"""Retry images of a run, take the messages of a cancelled one off the queue, and publish every batch that waits."""

from collections.abc import Sequence
from functools import partial

from celery import Celery
from sqlalchemy import Engine

from producer.submit import publish_run
from tagmill.broker.publish import publish
from tagmill.broker.remove import remove_messages
from tagmill.db.connection import database_time
from tagmill.ledger.reaper import abandoned_runs, mark_dead, reclaim_before, reclaim_due, requeue_expired
from tagmill.ledger.runs import cancelled_messages, requeue_images
from tagmill.outcomes import ErrorCode


def remove_cancelled(app: Celery, engine: Engine, run_id: int) -> int:
    """Take the messages of cancelled batches of a run off its queue; return how many were still there.

    Workers drop the others. Raise kombu's OperationalError if the broker is down: then they drop all of them.
    """
    queue, messages = cancelled_messages(engine, run_id)
    return remove_messages(app, queue, run_id, messages)


def retry_run(
    app: Celery, engine: Engine, run_id: int, codes: Sequence[ErrorCode], queue: str, *, failed_only: bool = False
) -> int:
    """Requeue failed images, and images that a cancelled run left untagged; return their number.

    See `tagmill.ledger.runs.requeue_images` for `codes`, `failed_only` and errors.
    """
    images = requeue_images(engine, run_id, codes, queue, failed_only=failed_only)
    publish_run(app, engine, run_id)
    return images


def reconcile(app: Celery, engine: Engine, queue: str, max_attempts: int) -> int:
    """Publish every batch that waits or lost its worker, whatever the queue holds; return their number.

    Workers do the same as soon as the queue is empty. A batch that is published twice is tagged once.
    """
    while requeue_expired(engine, queue):
        pass
    while mark_dead(engine, queue, max_attempts):
        pass
    now = database_time(engine)
    published = sum(publish_run(app, engine, run_id) for run_id in abandoned_runs(engine, queue))
    for look in (reclaim_due, partial(reclaim_before, moment=now)):
        while batches := look(engine, queue):
            publish(app, batches, engine=engine)
            published += len(batches)
    return published

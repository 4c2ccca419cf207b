"""Retry images of a run, and publish every batch that waits."""

from collections.abc import Sequence

from celery import Celery
from sqlalchemy import Engine

from producer.submit import publish_run
from tagmill.broker.publish import publish
from tagmill.db.connection import database_time
from tagmill.ledger.reaper import mark_dead, reclaim_before, requeue_expired
from tagmill.ledger.runs import requeue_images
from tagmill.outcomes import ErrorCode


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
    mark_dead(engine, queue, max_attempts)
    now = database_time(engine)
    published = 0
    while batches := reclaim_before(engine, queue, now):
        publish(app, batches)
        published += len(batches)
    return published

"""Retry, pause and resume runs, change their priority, and publish every batch that waits."""

from collections.abc import Sequence
from functools import partial

from celery import Celery
from sqlalchemy import Engine

from producer.publish import publish_run
from tagmill.broker.publish import publish
from tagmill.broker.remove import remove_messages
from tagmill.db.connection import database_time
from tagmill.ledger.batches.reaper import abandoned_runs, mark_dead, reclaim_before, reclaim_due, requeue_expired
from tagmill.ledger.runs.control import pause_run, resume_run, set_priority, waiting_messages
from tagmill.ledger.runs.create import cancelled_messages, requeue_images
from tagmill.ledger.runs.publishing import queue_of
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority


def remove_cancelled(app: Celery, engine: Engine, run_id: int) -> int:
    """Take the messages of cancelled batches of a run off its queue; return how many were still there.

    Workers drop the others. Raise kombu's OperationalError if the broker is down: then they drop all of them.
    """
    queue, messages = cancelled_messages(engine, run_id)
    return remove_messages(app, queue, run_id, messages)


def pause(app: Celery, engine: Engine, run_id: int, reason: str | None = None) -> int | None:
    """Pause a run and take its messages off the queue; return how many were there, and None if it was paused already.

    Workers drop what is left. Raise the errors of `tagmill.ledger.runs.control.pause_run`, and kombu's OperationalError
    if the broker is down: the run is paused then, too.
    """
    if not pause_run(engine, run_id, reason):
        return None
    queue, messages = waiting_messages(engine, run_id)
    return remove_messages(app, queue, run_id, messages)


def resume(app: Celery, engine: Engine, run_id: int, reason: str | None = None) -> int | None:
    """Open a paused run and publish what waits; return how many messages were sent, and None if it was not paused.

    Raise the errors of `tagmill.ledger.runs.control.resume_run` and of `publish_run`.
    """
    return publish_run(app, engine, run_id) if resume_run(engine, run_id, reason) else None


def change_priority(
    app: Celery, engine: Engine, run_id: int, priority: Priority, reason: str | None = None
) -> int | None:
    """Change the priority of a run, and publish its waiting batches again there.

    Return how many messages were sent, and None if it has that priority already. Raise the errors of
    `tagmill.ledger.runs.control.set_priority` and of `publish_run`.
    """
    before = set_priority(engine, run_id, priority, reason)
    if before is priority:
        return None
    # What stays on a list that is served sooner would be taken at the old priority.
    remove_messages(app, queue_of(engine, run_id), run_id, steps=(before, before.retry_step))
    return publish_run(app, engine, run_id)


def retry_run(
    app: Celery,
    engine: Engine,
    run_id: int,
    codes: Sequence[ErrorCode],
    queue: str,
    *,
    failed_only: bool = False,
    reason: str | None = None,
) -> int:
    """Requeue failed images, and images that a cancelled run left untagged; return their number.

    See `tagmill.ledger.runs.create.requeue_images` for `codes`, `failed_only` and errors.
    """
    images = requeue_images(engine, run_id, codes, queue, failed_only=failed_only, reason=reason)
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
    for priority in Priority:
        looks = ((reclaim_due, priority.retry_step), (partial(reclaim_before, moment=now), int(priority)))
        for look, step in looks:
            while batches := look(engine, queue, priority):
                publish(app, batches, step, engine=engine)
                published += len(batches)
    return published

"""The reaper pass that republishes expired and lost batches; one thread of each worker repeats it."""

import time
from collections.abc import Mapping
from functools import partial

from celery import Celery
from sqlalchemy import Engine

from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, publish, queue_length
from tagmill.db.connection import terminate_silent
from tagmill.ledger.batches.reaper import (
    abandoned_runs,
    acquire_reaper_lock,
    mark_dead,
    reclaim_due,
    reclaim_lost,
    reclaim_retries,
    requeue_expired,
)
from tagmill.ledger.runs.publishing import leave_publishing, priority_of, take_unpublished
from tagmill.priority import STEPS, Priority
from tagmill.settings import Settings
from worker.connections.availability import Services
from worker.connections.periodic import Periodic
from worker.task import log

#: share of the grace after which a batch that waits for a retry counts as lost: it is served before others
AGAIN_SHARE = 0.3


def reap(app: Celery, engine: Engine, settings: Settings, services: Services) -> int:
    """Republish the batches that lost their worker or their message; return how many. One worker at a time does it."""
    queue, asked = settings.queue, time.monotonic()
    if not acquire_reaper_lock(engine, queue, settings.reap_seconds / 2):
        services.database.answered(asked)
        return 0
    # Leases of live workers expire during an outage; wait one lease before requeueing.
    if services.database.is_stable(settings.lease_seconds):
        requeue_expired(engine, queue)
    mark_dead(engine, queue, settings.max_attempts)
    services.database.answered(asked)
    # Before any batch is marked as published: a broker that is down ends this pass here.
    with open_channel(app) as channel:
        recovered = recover_messages(app, channel, engine, queue)
        waiting = {step: queue_length(channel, queue, step) for step in STEPS}
    if recovered:
        log.warning(
            "messages that the broker lost were republished",
            extra={"action": "messages_recovered", "batches": recovered},
        )
    published = sum(_publish_lost(app, engine, settings, priority, waiting) for priority in Priority)
    for run_id in abandoned_runs(engine, queue)[:1]:
        published += _publish_abandoned(app, engine, run_id)
    if published:
        log.info("batches republished", extra={"action": "batches_republished", "batches": published})
    services.broker.answered(asked)
    return recovered + published


def _publish_lost(
    app: Celery, engine: Engine, settings: Settings, priority: Priority, waiting: Mapping[int, int]
) -> int:
    """Publish the batches of a priority that have no message; return how many. `waiting`: step -> messages."""
    queue, grace = settings.queue, settings.queued_grace_seconds
    due = reclaim_due(engine, queue, priority)
    if waiting[priority.retry_step] == 0:
        due += reclaim_retries(engine, queue, priority, AGAIN_SHARE * grace)
    empty = waiting[priority] + waiting[priority.retry_step] == 0
    lost = reclaim_lost(engine, queue, priority, grace) if empty else []
    for batches, step in ((due, priority.retry_step), (lost, int(priority))):
        if batches:
            publish(app, batches, step, engine=engine)
    return len(due) + len(lost)


def _publish_abandoned(app: Celery, engine: Engine, run_id: int) -> int:
    """Publish the next batches of a run whose producer ended early; return how many. The next pass goes on."""
    batches = take_unpublished(engine, run_id)
    if batches:
        publish(app, batches, priority_of(engine, run_id), engine=engine)
        leave_publishing(engine, run_id)
    return len(batches)


def end_silent(engine: Engine, settings: Settings, services: Services) -> None:
    """End the connections of frozen workers. Every worker does it."""
    asked = time.monotonic()
    terminate_silent(engine, settings.lease_seconds)
    services.database.answered(asked)


def reaper_threads(app: Celery, engine: Engine, settings: Settings, services: Services) -> list[Periodic]:
    """Return the threads of the reaper, not yet started.

    Silent connections have their own: a frozen worker may hold the lock that the reaper waits for.
    """
    threads = [Periodic("reaper", settings.reap_seconds, lambda: reap(app, engine, settings, services), services)]
    if engine.dialect.name == "postgresql":
        work = partial(end_silent, engine, settings, services)
        threads.append(Periodic("silent_connections", settings.lease_seconds / 2, work, services))
    return threads

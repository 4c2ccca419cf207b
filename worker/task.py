"""The Celery task, and the look for work that nobody does any more."""

import logging
import time
from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject
from sqlalchemy import Engine

from tagmill.broker import TAG_BATCH, BatchMessage, Priority, open_channel, publish, queue_length
from tagmill.database import end_silent
from tagmill.reaper import bury_dead, reclaim_again, reclaim_due, reclaim_lost, requeue_expired, take_turn
from tagmill.restore import restore
from tagmill.settings import Settings
from worker.outage import Services, StoppedError
from worker.periodic import Periodic
from worker.runtime import Runtime

#: of the grace of a waiting batch: one that is to be served before all others is missed sooner
AGAIN_SHARE = 0.3

log = logging.getLogger(__name__)


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Give the application its one task. `runtime` builds on the first call, after any fork."""

    @app.task(name=TAG_BATCH, ignore_result=True)  # type: ignore[untyped-decorator]  # celery ships no types
    def tag_batch(message: object) -> None:
        try:
            accepted = BatchMessage.from_json(message)
        except ValueError as error:
            log.error("message refused", extra={"action": "message_refused", "reason": str(error)})
            raise Reject(str(error), requeue=False) from error
        try:
            runtime().process(accepted)
        except StoppedError as error:
            raise Reject("the worker ends", requeue=True) from error


def reap(app: Celery, engine: Engine, settings: Settings, services: Services) -> int:
    """Publish the batches that lost their worker or their message; return how many. One worker at a time does it."""
    queue, asked = settings.queue, time.monotonic()
    if not take_turn(engine, queue, settings.reap_seconds / 2):
        services.database.answered(asked)
        return 0
    end_silent(engine, settings.lease_seconds)
    # After an outage leases have ended whose owners live: they get the time to renew them.
    if services.database.steady(settings.lease_seconds):
        requeue_expired(engine, queue)
    bury_dead(engine, queue, settings.max_attempts)
    services.database.answered(asked)
    # Asked before anything is marked as published: a broker that is down ends this look here.
    with open_channel(app) as channel:
        restored = restore(app, channel, engine, queue)
        waiting, first = queue_length(channel, queue), queue_length(channel, queue, Priority.AGAIN)
    if restored:
        log.warning("the broker had lost messages", extra={"action": "broker_restored", "batches": restored})
    due = reclaim_due(engine, queue)
    if first == 0:
        due += reclaim_again(engine, queue, AGAIN_SHARE * settings.queued_grace_seconds)
    lost = reclaim_lost(engine, queue, settings.queued_grace_seconds) if waiting == 0 else []
    if due or lost:
        publish(app, due, Priority.AGAIN)
        publish(app, lost)
        log.info("batches published again", extra={"action": "reaped", "batches": len(due) + len(lost)})
    services.broker.answered(asked)
    return restored + len(due) + len(lost)


def reaper(app: Celery, engine: Engine, settings: Settings, services: Services) -> Periodic:
    """Return the thread that reaps."""
    return Periodic("reaper", settings.reap_seconds, lambda: reap(app, engine, settings, services), services)

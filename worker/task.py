"""The Celery task, and the look for work that nobody does any more."""

import logging
from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject
from sqlalchemy import Engine

from tagmill.broker import TAG_BATCH, BatchMessage, publish, queue_length
from tagmill.reaper import bury_dead, reclaim_due, reclaim_lost, requeue_expired
from tagmill.settings import Settings
from worker.periodic import Periodic
from worker.runtime import Runtime

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
        runtime().process(accepted)


def reap(app: Celery, engine: Engine, settings: Settings) -> int:
    """Publish the batches that lost their worker or their message; return how many."""
    queue = settings.queue
    bury_dead(engine, queue, settings.max_attempts)
    overdue = requeue_expired(engine, queue, settings.max_attempts) + reclaim_due(engine, queue)
    if queue_length(app, queue) == 0:
        overdue += reclaim_lost(engine, queue, settings.queued_grace_seconds)
    if overdue:
        publish(app, overdue)
        log.info("batches published again", extra={"action": "reaped", "batches": len(overdue)})
    return len(overdue)


def reaper(app: Celery, engine: Engine, settings: Settings) -> Periodic:
    """Return the thread that reaps. Several workers may run one each: each batch goes to one of them."""
    return Periodic("reaper", settings.reap_seconds, lambda: reap(app, engine, settings))

"""The Celery task, and the thread that looks for work nobody does any more."""

import logging
import threading
from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker import TAG_BATCH, BatchMessage, publish, queue_length
from tagmill.reaper import bury_dead, reclaim_lost, requeue_expired
from tagmill.settings import Settings
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
    bury_dead(engine, settings.max_attempts)
    overdue = requeue_expired(engine, settings.max_attempts)
    if queue_length(app, settings.queue) == 0:
        overdue += reclaim_lost(engine, settings.queued_grace_seconds)
    if overdue:
        publish(app, overdue)
        log.info("batches published again", extra={"action": "reaped", "batches": len(overdue)})
    return len(overdue)


class ReaperThread(threading.Thread):
    """Looks every `reap_seconds`. Several workers may run one each: each batch goes to one of them."""

    def __init__(self, app: Celery, engine: Engine, settings: Settings) -> None:
        super().__init__(name="reaper", daemon=True)
        self._app, self._engine, self._settings = app, engine, settings
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End after the look in hand."""
        self._stopped.set()

    def run(self) -> None:
        failing = False
        while not self._stopped.wait(self._settings.reap_seconds):
            try:
                reap(self._app, self._engine, self._settings)
            except (SQLAlchemyError, OperationalError, RedisError, OSError) as error:
                if not failing:
                    log.warning("reaper failed", extra={"action": "reap_failed", "reason": str(error)})
                failing = True
            else:
                if failing:
                    log.info("reaper works again", extra={"action": "reap_restored"})
                failing = False

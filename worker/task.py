"""The Celery task, and the look for work that nobody does any more."""

import logging
from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject

from tagmill.broker.message import TAG_BATCH, BatchMessage
from worker.batch import Runtime
from worker.connections.availability import StoppedError

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

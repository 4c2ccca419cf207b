"""The Celery task."""

import logging
from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject

from tagmill.broker.message import TAG_BATCH, BatchMessage
from worker.batch import BatchProcessor
from worker.connections.availability import StoppedError

log = logging.getLogger(__name__)


def register(app: Celery, batches: Callable[[], BatchProcessor]) -> None:
    """Register the task. `batches` returns the batch processor; it builds it on the first call, after any fork."""

    @app.task(name=TAG_BATCH, ignore_result=True)  # type: ignore[untyped-decorator]  # celery ships no types
    def tag_batch(message: object) -> None:
        try:
            accepted = BatchMessage.from_json(message)
        except ValueError as error:
            log.error("message refused", extra={"action": "message_refused", "reason": str(error)})
            raise Reject(str(error), requeue=False) from error
        try:
            batches().process(accepted)
        except StoppedError as error:
            raise Reject("the worker is ending", requeue=True) from error

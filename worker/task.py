"""The Celery task."""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from celery import Celery
from celery.exceptions import Reject

from tagmill.broker.message import TAG_BATCH, BatchMessage
from worker.batch import BatchFailedError, BatchProcessor
from worker.connections.availability import StoppedError
from worker.connections.celery_log import silence_tasks

log = logging.getLogger(__name__)


class _Current:
    """The batch processor of this process: Celery shares a task, once registered, with every later application."""

    batches: ClassVar[Callable[[], BatchProcessor] | None] = None


def register(app: Celery, batches: Callable[[], BatchProcessor]) -> None:
    """Register the task. `batches` returns the batch processor; it builds it on the first call, after any fork.

    A later call replaces `batches`, for all applications of this process.
    """
    known, _Current.batches = _Current.batches is not None, staticmethod(batches)
    if known:
        return
    silence_tasks()

    # What the task returns, and a failed attempt, are in Celery's events, and so in Flower; nothing is stored.
    @app.task(  # type: ignore[untyped-decorator]  # celery ships no types
        name=TAG_BATCH, ignore_result=True, throws=(BatchFailedError,)
    )
    def tag_batch(message: object) -> dict[str, Any]:
        try:
            accepted = BatchMessage.from_json(message)
        except ValueError as error:
            log.error("message refused", extra={"action": "message_refused", "reason": str(error)})
            raise Reject(str(error), requeue=False) from error
        try:
            assert _Current.batches is not None, "it was registered"
            return _Current.batches().process(accepted)
        except StoppedError as error:
            raise Reject("the worker is ending", requeue=True) from error

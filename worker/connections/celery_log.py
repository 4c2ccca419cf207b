"""Keep Celery's log to what an operator needs: JSON alone, no lines per task, one when a broker is down or back."""

import logging
import time
from typing import Any

from celery.apps import worker as program
from celery.worker.consumer.consumer import CANCEL_TASKS_BY_DEFAULT, CONNECTION_ERROR, CONNECTION_RETRY

from worker.connections.availability import Services

_LOGGERS = (
    "celery.worker.consumer.consumer",
    "celery.worker.consumer.connection",
    "celery.worker.request",
    "py.warnings",
)
#: log message of kombu.message
_LOST_ACK = "Couldn't ack %r, reason:%r"


log = logging.getLogger(__name__)


def log_all(worker: Any) -> None:
    """Have a worker of Celery print no banner, and log what it would print when it gets a signal."""
    worker.quiet = True
    program.safe_say = _log_said


def _log_said(message: str, *_: object) -> None:
    log.info("%s", message.strip(), extra={"action": "celery_said"})


def silence_tasks() -> None:
    """Drop Celery's lines that a message came and what became of it: each batch has a line of Tagmill's own.

    Celery shows a rejected message with a traceback. Tagmill rejects one when its process ends. What Celery logs as an
    error is still logged.
    """
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)


class BrokerLog(logging.Filter):
    """A filter that turns Celery's log lines about the connection into the state of a service, and drops the lines."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services

    def install(self) -> None:
        """Add this filter to the loggers of Celery's consumer and of its warning about a setting that is intended."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        values = record.args if isinstance(record.args, tuple) else ()
        # A lost acknowledgment does no harm: the batch is done in SQL, and its message will be dropped.
        if record.msg in {CONNECTION_ERROR, _LOST_ACK} or CONNECTION_RETRY in values:
            cause = values[1]
            self._services.note_broker(cause if isinstance(cause, Exception) else ConnectionError(str(cause)))
            return False
        if record.msg == "Connected to %s":
            self._services.broker.answered(time.monotonic())
        return CANCEL_TASKS_BY_DEFAULT.strip() not in record.getMessage()

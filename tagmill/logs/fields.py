"""Fields that every line has: of the process, and of the batch in work."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: attributes of every log record; any other came from `extra`. `data` is what Celery adds to some.
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
#: of every line of this process: its host, and the name of its worker once that is known
_of_process: dict[str, Any] = {"host": socket.gethostname()}
#: of every line that this thread logs
_of_thread: ContextVar[dict[str, Any]] = ContextVar("of_thread")


def name_worker(name: str) -> None:
    """Add the name of a worker, NAME@HOST, to every line that this process logs from now on."""
    _of_process["worker"] = name


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Add these fields to every line that this thread logs inside the block."""
    before = _of_thread.set(_of_thread.get({}) | fields)
    try:
        yield
    finally:
        _of_thread.reset(before)


def current_fields() -> dict[str, Any]:
    """Return the fields of a line that this thread logs now."""
    return _of_process | _of_thread.get({})


def batch_fields() -> dict[str, Any]:
    """Return the fields of the batch that this thread works on."""
    return dict(_of_thread.get({}))


def further_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that a line was given as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}

"""JSON log lines: one object per event, with the host, the batch in work and the fields given as `extra`."""

import json
import logging
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

#: attributes of every log record; any other came from `extra`
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

#: fields of every line that this thread logs
_fields: ContextVar[dict[str, object]] = ContextVar("fields")


@contextmanager
def log_fields(**fields: object) -> Iterator[None]:
    """Add these fields to every line that this thread logs inside the block."""
    before = _fields.set(fields)
    try:
        yield
    finally:
        _fields.reset(before)


class JsonLines(logging.Formatter):
    """A formatter that writes time, level, host, logger and event, then every further field."""

    def __init__(self) -> None:
        super().__init__()
        self._host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "host": self._host,
            "logger": record.name,
            "event": record.getMessage(),
        }
        event |= _fields.get({})
        event |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key != "data"}
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


def configure(level: str = "INFO") -> None:
    """Write every log line and every warning of Python to stderr as JSON, for processes that run unattended."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    fields = {"action": "python_warning", "category": category.__name__, "at": f"{filename}:{lineno}"}
    logging.getLogger("py.warnings").warning("%s", " ".join(str(message).split()), extra=fields)

"""What a line looks like: JSON of our own, JSON by the Elastic Common Schema, or text for people."""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tagmill.logs.fields import current_fields, further_fields

#: of the Elastic Common Schema; https://www.elastic.co/docs/reference/ecs
ECS_VERSION = "8.11.0"
#: field -> its name there; every other one is below `tagmill.`
_ECS_NAMES = {
    "host": "host.hostname",
    "worker": "service.node.name",
    "action": "event.action",
    "reason": "event.reason",
    "trace_id": "trace.id",
    "span_id": "span.id",
}


class LogFormat(StrEnum):
    """The values of TAGMILL_LOG_FORMAT."""

    JSON = "json"
    ECS = "ecs"
    TEXT = "text"


class JsonLines(logging.Formatter):
    """Writes time, level, host, worker, logger and event, then every further field."""

    def format(self, record: logging.LogRecord) -> str:
        event = {"time": _time_of(record), "level": record.levelname.lower(), "host": None, "logger": record.name}
        event |= {"event": record.getMessage()} | _fields_of(record)
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


class EcsLines(logging.Formatter):
    """Writes the same by the Elastic Common Schema, whose names shippers of logs know."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "@timestamp": _time_of(record),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": ECS_VERSION,
            "service.name": "tagmill",
            "log.logger": record.name,
            "process.pid": record.process,
        }
        event |= {_ECS_NAMES.get(key, f"tagmill.{key}"): value for key, value in _fields_of(record).items()}
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, _ = record.exc_info
            event |= {"error.type": kind.__name__, "error.message": str(error)}
            event["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


class TextLines(logging.Formatter):
    """Writes time, level, event and fields for people, on one line but for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={_word(value)}" for key, value in _fields_of(record).items() if key != "host")
        message = " ".join(record.getMessage().split())
        line = f"{_time_of(record)} {record.levelname:<7} {message}  {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def formatter(name: LogFormat) -> logging.Formatter:
    """Return a formatter of a format."""
    return {LogFormat.JSON: JsonLines, LogFormat.ECS: EcsLines, LogFormat.TEXT: TextLines}[name]()


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return current_fields() | further_fields(record)


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or "\n" in text or not text else text

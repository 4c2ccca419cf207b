"""Check what comes from the queue before kombu and Celery read it: they take every field as it is."""

import base64
import json
from typing import Any

from tagmill.broker.message import TAG_BATCH, BatchMessage
from tagmill.priority import STEPS, Priority

#: bytes of the longest message that is read; Tagmill's have 1 kB
LONGEST = 64 * 1024
#: characters of a name or an id
_LONGEST_NAME = 255
#: what parsing arbitrary bytes raises
_NOT_PARSED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class RefusedMessageError(Exception):
    """Raised for data on the queue that is not a message of Tagmill."""


def batch_envelope(raw: bytes, queue: str) -> dict[str, Any]:
    """Return Celery's envelope of a batch message, made again from the fields that are known.

    So no field that Celery would act on comes from the queue: no compression, serializer, time limit or callback. Raise
    RefusedMessageError for anything but a batch message.
    """
    if len(raw) > LONGEST:
        raise RefusedMessageError(f"{len(raw)} bytes, more than {LONGEST}")
    try:
        envelope = json.loads(raw)
        headers, properties = envelope["headers"], envelope["properties"]
        if headers["task"] != TAG_BATCH:
            raise RefusedMessageError(f"unknown task {str(headers['task'])[:100]!r}")
        content = (envelope["content-type"], envelope["content-encoding"], headers.get("compression"))
        if content != ("application/json", "utf-8", None) or properties["body_encoding"] != "base64":
            raise RefusedMessageError("its body is not plain JSON in base64")
        (message,), keywords, further = json.loads(base64.b64decode(envelope["body"], validate=True))
        if keywords or any(further.values()):
            raise RefusedMessageError("its task has further arguments or callbacks")
        body = json.dumps([[BatchMessage.from_json(message).to_json()], {}, {}])
        task_id, tag = _name(headers["id"]), _name(properties["delivery_tag"])
        step = properties.get("priority")
        step = step if type(step) is int and step in STEPS else int(Priority.NORMAL)
        shown = headers.get("argsrepr")
    except _NOT_PARSED as error:
        raise RefusedMessageError(f"{type(error).__name__}: {error}"[:200]) from error
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": TAG_BATCH,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": shown if isinstance(shown, str) else "",
            "kwargsrepr": "",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": task_id,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": tag,
            "priority": step,
            "body_encoding": "base64",
        },
    }


def require_envelope(payload: Any) -> None:
    """Raise RefusedMessageError if a field that kombu needs of any message is missing or of the wrong type."""
    try:
        properties, headers = payload["properties"], payload.get("headers") or {}
        where = properties["delivery_info"]
        names = [properties["delivery_tag"], where["exchange"], where["routing_key"]]
        if not all(isinstance(name, str) for name in names) or not isinstance(headers, dict):
            raise TypeError("a name in it is no text")
        if not isinstance(headers.get("clock", 0), int):
            raise TypeError("its clock is no number")
    except _NOT_PARSED as error:
        raise RefusedMessageError(f"{type(error).__name__}: {error}"[:200]) from error


def require_unacknowledged(packed: bytes) -> None:
    """Raise RefusedMessageError for an entry of kombu's hash of unacknowledged messages that it did not write."""
    try:
        payload, exchange, routing_key = json.loads(packed)
        _name(exchange or "-")
        _name(routing_key)
    except _NOT_PARSED as error:
        raise RefusedMessageError(f"{type(error).__name__}: {error}"[:200]) from error
    require_envelope(payload)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise TypeError("a name or an id is no text, or too long")
    return value

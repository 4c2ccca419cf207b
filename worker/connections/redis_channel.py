"""A channel to Redis that closes completely when Redis is down, and drops malformed messages."""

import json
import logging
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual

log = logging.getLogger(__name__)

#: what the JSON parser raises for arbitrary bytes on the queue
_NO_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


class MalformedMessageError(Exception):
    """Raised for JSON on the queue that is not a message envelope of Celery."""


class Message(virtual.Message):
    """kombu's message, with a check of all fields that kombu and Celery read unchecked."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """Raise MalformedMessageError if a field that they need is missing or of the wrong type."""
        try:
            properties, headers = payload["properties"], payload.get("headers") or {}
            where = properties["delivery_info"]
            names = [properties["delivery_tag"], where["exchange"], where["routing_key"]]
            names += [headers[name] for name in ("task", "id") if "task" in headers]
            if not all(isinstance(name, str) for name in names):
                raise TypeError("a name in it is no text")
            super().__init__(payload, channel=channel, **options)  # type: ignore[no-untyped-call]  # kombu is partly typed
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise MalformedMessageError(f"{type(error).__name__}: {error}") from error


class Channel(redis.Channel):
    """kombu's channel, which closes even if the reply that it waits for never comes.

    kombu 5.7 leaves such a channel half open. The next attempt to close it, when the connection no longer has its
    address, ends the worker with "'NoneType' object has no attribute 'hostname'". In kombu a malformed message on the
    list ends the worker, too.
    """

    Message = Message

    def close(self) -> None:
        """Give unacknowledged messages back, and close. Raise the connection's errors if Redis is down."""
        if self._in_poll:
            try:
                self._brpop_read()
            except (Empty, *self.connection_errors):
                pass  # no message; one that Redis had sent is in its unacknowledged list, or lost with Redis
        super().close()  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (*_NO_JSON, MalformedMessageError) as error:
            # It is off the list already, and no worker could use it.
            reason = f"{type(error).__name__}: {error}"[:200]
            log.error("malformed message dropped from the queue", extra={"action": "message_dropped", "reason": reason})
            return True


def install() -> None:
    """Use this channel for every connection to Redis of this process."""
    redis.Transport.Channel = Channel

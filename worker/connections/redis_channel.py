"""A channel to Redis that closes whole when Redis is away, and drops what is no message."""

import json
import logging
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual

log = logging.getLogger(__name__)

#: what JSON's parser raises for bytes that a stranger put on the queue
_NO_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


class MalformedMessageError(Exception):
    """Raised for JSON on the queue that is not an envelope as Celery writes it."""


class Message(virtual.Message):
    """kombu's message, checked for all that kombu and Celery read of it without asking."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """Raise MalformedMessageError where a part that they need is missing or of another kind."""
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
    """kombu's channel, closed in one go even where the answer that it waits for never comes.

    kombu 5.7 leaves such a channel half open, and the next attempt to close it, after the connection has forgotten its
    address, ends the worker with "'NoneType' object has no attribute 'hostname'". It also lets whatever stands on the
    list and is no message end the worker.
    """

    Message = Message

    def close(self) -> None:
        """Give back what was not acknowledged, and close. Raises the connection's errors where Redis is away."""
        if self._in_poll:
            try:
                self._brpop_read()
            except (Empty, *self.connection_errors):
                pass  # no message; what Redis may have sent is in its list of unacknowledged ones, or gone with it
        super().close()  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (*_NO_JSON, MalformedMessageError) as error:
            # Off the list by now, and nobody could make anything of it.
            reason = f"{type(error).__name__}: {error}"[:200]
            log.error("dropped from the queue: no message", extra={"action": "message_dropped", "reason": reason})
            return True


def install() -> None:
    """Let every connection to Redis of this process have such channels."""
    redis.Transport.Channel = Channel

"""A channel to Redis that closes completely when Redis is down, and that no message can stop.

What is on the queue and is not a message of Tagmill moves to the list QUEUE:dead, and the next message is taken.
"""

import json
import logging
import socket
import time
from contextlib import suppress
from queue import Empty
from typing import Any, ClassVar

from kombu.transport import redis, virtual
from redis.exceptions import NoPermissionError

from tagmill.broker import sentinel_transport
from worker.connections.envelope import (
    LONGEST,
    RefusedMessageError,
    batch_envelope,
    require_envelope,
    require_unacknowledged,
)
from worker.connections.tally import Tally

log = logging.getLogger(__name__)

#: messages that the list of dead messages holds; the oldest goes first
MOST_DEAD = 1000


class Message(virtual.Message):
    """kombu's message, with a check of the fields that kombu reads unchecked."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """Raise RefusedMessageError if a field that it needs is missing or of the wrong type."""
        require_envelope(payload)
        try:
            super().__init__(payload, channel=channel, **options)  # type: ignore[no-untyped-call]  # kombu is partly typed
        except (TypeError, ValueError, AttributeError) as error:
            raise RefusedMessageError(f"{type(error).__name__}: {error}"[:200]) from error


class QoS(redis.QoS):
    """kombu's messages in work, in a hash beside the queue; an entry that is none is dropped."""

    def restore_visible(self, *given: Any, **options: Any) -> None:
        """Put messages that were in work for too long back on their queue."""
        try:
            super().restore_visible(*given, **options)  # type: ignore[no-untyped-call]
        except self.channel.ResponseError as error:
            self.channel.delete_foreign(error)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put a message that was not acknowledged back on its queue."""
        with self.channel.conn_or_acquire(client) as connected:
            packed = connected.hget(self.unacked_key, tag)
            try:
                if packed is not None:
                    require_unacknowledged(packed)
            except RefusedMessageError as error:
                self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]
                self.channel.refuse(packed, error)
                return
            super().restore_by_tag(tag, connected, leftmost)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """kombu's channel, which closes even if the reply that it waits for never comes, and refuses what is no message.

    kombu 5.7 leaves such a channel half open. The next attempt to close it, when the connection no longer has its
    address, ends the worker with "'NoneType' object has no attribute 'hostname'". In kombu a malformed message on the
    list ends the worker, too.
    """

    Message = Message
    QoS = QoS
    #: the queue whose messages are all of Tagmill; others, such as the answers to `inspect`, are Celery's own
    batch_queue: ClassVar[str] = ""
    _refused: ClassVar[Tally] = Tally(log, logging.ERROR, "message refused")

    def close(self) -> None:
        """Give unacknowledged messages back, and close. Raise the connection's errors if Redis is down."""
        if self._in_poll:
            try:
                self._brpop_read()
            except (Empty, *self.connection_errors):
                pass  # no message; one that Redis had sent is in its unacknowledged list, or lost with Redis
        super().close()  # type: ignore[no-untyped-call]

    def refuse(self, raw: bytes, error: RefusedMessageError) -> None:
        """Move a message, which is off the queue already, to the dead ones, and log it."""
        self._refused.add("message", action="message_refused", reason=str(error))
        dead = {
            "time": round(time.time(), 3),
            "worker": socket.gethostname(),
            "reason": str(error),
            "bytes": len(raw),
            "message": raw[:LONGEST].decode(errors="backslashreplace"),
        }
        # If Redis is down, or full, the log is all that is left of it.
        with suppress(*self.connection_errors, *self.connection.channel_errors), self.conn_or_acquire() as client:
            if client.lpush(f"{self.batch_queue}:dead", json.dumps(dead)) > MOST_DEAD:
                client.rpop(f"{self.batch_queue}:dead")

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        client.set_response_callback("BRPOP", self._checked)
        return client

    def _checked(self, reply: Any, **_: Any) -> Any:
        """Return the key and the message of a reply; None, as when nothing came, if the message is refused."""
        if not reply:
            return None
        key, raw = reply
        if key.decode().split(self.sep)[0] != self.batch_queue:
            return key, raw
        try:
            return key, json.dumps(batch_envelope(raw, self.batch_queue)).encode()
        except RefusedMessageError as error:
            self.refuse(raw, error)
            return None

    def _size(self, queue: str) -> int:
        try:
            return int(super()._size(queue))  # type: ignore[no-untyped-call]
        except self.ResponseError as error:
            self.delete_foreign(error)
            return 0

    def delete_foreign(self, error: Exception) -> None:
        """Delete keys of kombu and Tagmill that are of another type, so that no command works on them.

        Raise `error` again if it has another cause.
        """
        if "WRONGTYPE" not in str(error):
            raise error
        with self.conn_or_acquire() as client:
            step: Any = self._q_for_pri
            keys = [step(self.batch_queue, priority) for priority in self.priority_steps]
            looks = dict.fromkeys((*keys, f"{self.batch_queue}:dead"), client.llen)
            looks[self.unacked_key] = lambda key: client.hget(key, "")
            looks[self.unacked_index_key] = lambda key: client.zrange(key, 0, 0)
            for key, look in looks.items():
                try:
                    look(key)
                except self.ResponseError:
                    client.delete(key)
                    self.refuse(b"", RefusedMessageError(f"Redis key {key} was of another type; it was deleted"))

    def _handle_message(self, client: Any, r: Any) -> Any:
        payload = super()._handle_message(client, r)  # type: ignore[no-untyped-call]
        if payload["type"].endswith(b"message"):
            try:
                json.loads(payload["data"])
            except (ValueError, RecursionError) as error:
                self._drop(error)
                payload["data"] = None  # as when nothing came
        return payload

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except self.ResponseError as error:
            self.delete_foreign(error)
            return True
        except (RefusedMessageError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            self._drop(error)  # an answer to a remote command
            return True

    def _receive_one(self, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[no-untyped-call]
        except (RefusedMessageError, RecursionError) as error:
            self._drop(error)  # a remote command
            return True

    def _drop(self, error: Exception) -> None:
        self._refused.add("remote", action="remote_message_refused", reason=f"{type(error).__name__}: {error}"[:200])


class SentinelChannel(Channel, sentinel_transport.Channel):
    """The same to the master that Sentinel knows."""


def install(queue: str) -> None:
    """Use this channel for every connection to Redis of this process; `queue` holds batch messages alone."""
    Channel.batch_queue = queue
    redis.Transport.Channel = Channel
    sentinel_transport.Transport.Channel = SentinelChannel
    # A right that this user has lost is an error of its connection: Celery then asks whether the process is to go on.
    redis.Transport.connection_errors = (*redis.Transport.connection_errors, NoPermissionError)

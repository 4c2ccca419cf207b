"""Detect that Redis lost messages, and publish them again at once.

Redis may come back empty, from an append-only file without its last second, or as a replica without its master's last
writes. A marker, a key next to the queue, records which server process held the queue and when it was last seen. If the
marker is gone, any message may be lost. If it names another process, those published shortly before may be.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from celery import Celery
from sqlalchemy import Engine

from tagmill.broker.publish import publish
from tagmill.db.connection import database_time
from tagmill.ledger.batches.reaper import reclaim_published_between
from tagmill.priority import Priority

#: seconds before the marker was last written whose messages may be lost with a server process: `appendfsync everysec`
#: keeps what is older than two, and a batch is marked as published shortly before its message is sent
UNSAFE_SECONDS = 5.0


@dataclass(frozen=True)
class LossWindow:
    """The period in which lost messages were published, in Unix seconds by the database's clock."""

    since: float
    until: float


def recover_messages(app: Celery, channel: Any, engine: Engine, queue: str) -> int:
    """Publish every queued batch whose message the broker may have lost; return their number.

    `channel` comes from `open_channel`. A batch that is published twice is tagged once. A broker inside this process
    loses nothing, so nothing is done for it.
    """
    if not hasattr(channel, "client"):
        return 0
    marker = _BrokerMarker(channel, f"{queue}:seen")
    now = database_time(engine)
    window = marker.loss_window(now)
    published = 0
    if window is not None:
        for priority, retries in product(Priority, (True, False)):
            between = partial(reclaim_published_between, engine, queue, priority, window.since, window.until)
            while batches := between(retries=retries):
                publish(app, batches, priority.retry_step if retries else priority, engine=engine)
                published += len(batches)
    marker.write_seen(now)
    return published


class _BrokerMarker:
    """Redis key QUEUE:seen: the server's run_id and last-seen time, or the window being republished."""

    def __init__(self, channel: Any, key: str) -> None:
        self._client = channel.client
        #: the exception of redis-py, which is not imported unless the broker is Redis
        self._refused = channel.ResponseError
        self._key = key
        self._process = self._server_process()

    def loss_window(self, now: float) -> LossWindow | None:
        """Return when the messages that may be lost were published; None if none may be.

        The window is stored first: if the caller dies before it has republished, the next one gets the same window.
        """
        try:
            marker = json.loads(self._client.get(self._key) or b"")
            if "since" in marker:
                return LossWindow(float(marker["since"]), float(marker["until"]))
            if marker["process"] == self._process:
                return None
            window = LossWindow(float(marker["seen"]) - UNSAFE_SECONDS, now)
        except (ValueError, TypeError, KeyError):  # it is missing, or not one of ours
            window = LossWindow(0.0, now)
        self._client.set(self._key, json.dumps({"since": window.since, "until": window.until}))
        return window

    def write_seen(self, now: float) -> None:
        """Record that every message published before `now` is there, unless the key has vanished since it was read.

        If Redis refuses because its memory is full, the older marker stays, which claims less and is still true.
        """
        with suppress(self._refused):
            self._client.set(self._key, json.dumps({"process": self._process, "seen": now}), xx=True)

    def _server_process(self) -> str:
        try:
            return str(self._client.info("server")["run_id"])
        except self._refused:  # this user may not call INFO; an emptied server is still noticed
            return ""

"""Notices that Redis lost messages, and publishes them again at once.

A Redis comes back empty, from an append-only file that lacks its last second, or as a replica that lacked the last
writes of its master. A note beside the queue says by which server process the queue was last seen, and when. Where
the note is gone, every message is in doubt; where the process is another one, those that were published shortly before.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import Celery
from sqlalchemy import Engine

from tagmill.broker.message import Priority
from tagmill.broker.publish import publish
from tagmill.db.connection import database_time
from tagmill.ledger.reaper import reclaim_published_between

#: seconds before the last look whose messages may be gone with a server process: `appendfsync everysec` keeps what is
#: older than two, and a batch is marked as published shortly before its message is sent
UNSAFE_SECONDS = 5.0


@dataclass(frozen=True)
class LossWindow:
    """Messages published between two moments, in Unix seconds by the database's clock, may be gone."""

    since: float
    until: float


def recover_messages(app: Celery, channel: Any, engine: Engine, queue: str) -> int:
    """Publish again every waiting batch whose message the broker may have lost; return how many.

    `channel` is one of `open_channel`. A batch that is published twice is tagged once. A broker in this process forgets
    nothing, and is left alone.
    """
    if not hasattr(channel, "client"):
        return 0
    note = _BrokerMarker(channel, f"{queue}:seen")
    now = database_time(engine)
    doubt = note.doubt(now)
    published = 0
    if doubt is not None:
        for priority in Priority:
            again = priority is Priority.AGAIN
            while batches := reclaim_published_between(engine, queue, doubt.since, doubt.until, again=again):
                publish(app, batches, priority)
                published += len(batches)
    note.seen(now)
    return published


class _BrokerMarker:
    """The key beside the queue: a server process and when it was seen, or a doubt that somebody is about to clear."""

    def __init__(self, channel: Any, key: str) -> None:
        self._client = channel.client
        #: of redis-py, which is not imported where the broker is no Redis
        self._refused = channel.ResponseError
        self._key = key
        self._process = self._server_process()

    def doubt(self, now: float) -> LossWindow | None:
        """Return what may be gone. It is noted: who comes next clears the same doubt, where this one does not."""
        try:
            noted = json.loads(self._client.get(self._key) or b"")
            if "since" in noted:
                return LossWindow(float(noted["since"]), float(noted["until"]))
            if noted["process"] == self._process:
                return None
            found = LossWindow(float(noted["seen"]) - UNSAFE_SECONDS, now)
        except (ValueError, TypeError, KeyError):  # there is none, or it is not ours
            found = LossWindow(0.0, now)
        self._client.set(self._key, json.dumps({"since": found.since, "until": found.until}))
        return found

    def seen(self, now: float) -> None:
        """Note that every message published before `now` is there, unless the note vanished meanwhile.

        A Redis without room refuses that, which does no harm: the older note says less, and nothing wrong.
        """
        with suppress(self._refused):
            self._client.set(self._key, json.dumps({"process": self._process, "seen": now}), xx=True)

    def _server_process(self) -> str:
        try:
            return str(self._client.info("server")["run_id"])
        except self._refused:  # INFO is not allowed to this user: an emptied server is noticed all the same
            return ""

"""What this worker says of itself in SQL, where `tagmill worker list` and `tagmill worker drain` find it."""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from importlib.metadata import version

from celery.utils.nodenames import host_format
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.errors import DatabaseRefusedError
from tagmill.ledger.fleet.workers import Identity, Work, WorkerState, begin, report
from tagmill.registry.models import models_by_sha256
from tagmill.settings import Settings

#: characters of a name that SQL holds
_LONGEST = 200
#: seconds of the images that a worker's speed is made of
RATE_SECONDS = 60.0


def identity(settings: Settings, name: str, pid: int) -> Identity:
    """Return who a worker is: `name` is NAME@%h or NAME@HOST, `pid` that of its supervisor, or of a process without."""
    worker = f"{socket.gethostname()}:{pid}"
    return Identity(worker, host_format(name)[-_LONGEST:], settings.queue, settings.device, version("tagmill"))


class SupervisedPresence:
    """The reports of a supervisor: of its start and end, and while none of its processes runs."""

    def __init__(self, engine: Engine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    def begin(self) -> None:
        """Record that this worker starts. A database that is down meanwhile gets its first report later."""
        with suppress(SQLAlchemyError, DatabaseRefusedError):
            begin(self._engine, self._identity)

    def tell(self, state: WorkerState) -> bool:
        """Record a state; return whether this worker was asked to drain. Say nothing if the database is down."""
        try:
            return report(self._engine, self._identity, state)
        except (SQLAlchemyError, DatabaseRefusedError):
            return False


class Presence:
    """The reports of a process that tags. `loaded` returns sha256 -> provider of its sessions."""

    def __init__(self, identity: Identity, loaded: Callable[[], Mapping[str, str]]) -> None:
        self._identity = identity
        self._loaded = loaded
        self._models: tuple[Collection[str], list[str]] = (frozenset(), [])
        self._lock = threading.Lock()
        #: batches and images that were finished, and when the last one was, in monotonic seconds
        self._finished: tuple[int, int, float] = (0, 0, 0.0)
        #: what SQL has of them
        self._told = (0, 0)
        #: monotonic seconds of earlier reports, and the images that were finished then
        self._past = deque([(time.monotonic(), 0)])

    def finished(self, images: int) -> None:
        """Count a batch."""
        with self._lock:
            batches, before, _ = self._finished
            self._finished = (batches + 1, before + images, time.monotonic())

    def report(self, engine: Engine, state: WorkerState) -> bool:
        """Record what this process does; return whether it was asked to drain. Raise what the database raises."""
        loaded = self._loaded()
        if loaded.keys() != self._models[0]:
            known = models_by_sha256(engine, sorted(loaded))
            self._models = (frozenset(loaded), sorted(model.title for model in known.values()))
        now, (batches, images, last) = time.monotonic(), self._finished
        work = Work(
            provider=", ".join(sorted(set(loaded.values())))[:_LONGEST] or None,
            models=self._models[1],
            batches=batches - self._told[0],
            images=images - self._told[1],
            rate=self._rate(now, images),
            idle_seconds=now - last if batches > self._told[0] else None,
        )
        drain = report(engine, self._identity, state, work)
        self._told = (batches, images)
        return drain

    def _rate(self, now: float, images: int) -> float:
        """Return images per second since a minute ago, or since this process began."""
        while len(self._past) > 1 and self._past[1][0] <= now - RATE_SECONDS:
            self._past.popleft()
        since, before = self._past[0]
        self._past.append((now, images))
        return round((images - before) / max(now - since, 1.0), 2)

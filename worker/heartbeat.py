"""Renew the leases of the batches in progress, so that no other worker takes them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from tagmill.db.connection import connect
from tagmill.ledger.batches.leases import renew
from worker.connections.availability import Services
from worker.connections.periodic import Periodic

#: beats per lease: all but one may be late or fail
BEATS = 5


class Heartbeat:
    """One thread for all batches of a process; it renews their leases `BEATS` times per lease."""

    def __init__(self, engine: Engine, lease_seconds: float, services: Services) -> None:
        # Its own connection: it must renew even while all others are blocked for longer than a lease.
        self._engine = connect(engine.url.render_as_string(hide_password=False), worker=True)
        self._services = services
        self._lease_seconds = lease_seconds
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._thread = Periodic("heartbeat", lease_seconds / BEATS, self._beat, services)
        self._thread.start()

    @contextmanager
    def holding(self, token: str) -> Iterator[None]:
        """Renew the lease of `token` until the block ends."""
        with self._lock:
            self._tokens.add(token)
        try:
            yield
        finally:
            with self._lock:
                self._tokens.discard(token)

    def stop(self) -> None:
        """End the thread and close its connection."""
        self._thread.stop()
        self._engine.dispose()

    def _beat(self) -> None:
        with self._lock:
            tokens = set(self._tokens)
        if not tokens:
            self._services.database.stop_retrying()
            return
        asked = time.monotonic()
        renew(self._engine, tokens, self._lease_seconds)
        self._services.database.answered(asked)

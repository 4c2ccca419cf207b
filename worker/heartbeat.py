"""Renews the leases of the batches in work, so that no other worker takes them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from tagmill.ledger import renew
from worker.periodic import Periodic


class Heartbeat:
    """One thread for all batches of a process; it beats three times within a lease."""

    def __init__(self, engine: Engine, lease_seconds: float) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._thread = Periodic("heartbeat", lease_seconds / 3, self._beat)
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
        """End the thread."""
        self._thread.stop()

    def _beat(self) -> None:
        with self._lock:
            tokens = set(self._tokens)
        if tokens:
            renew(self._engine, tokens, self._lease_seconds)

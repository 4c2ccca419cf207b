"""Renews the leases of the batches in work, so that no other worker takes them."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.ledger import renew

log = logging.getLogger(__name__)


class Heartbeat:
    """One thread for all batches of a process; it beats three times within a lease."""

    def __init__(self, engine: Engine, lease_seconds: float) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
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
        self._stopped.set()

    def _beat(self) -> None:
        failing = False
        while not self._stopped.wait(self._lease_seconds / 3):
            with self._lock:
                tokens = set(self._tokens)
            if not tokens:
                continue
            try:
                renew(self._engine, tokens, self._lease_seconds)
            except SQLAlchemyError as error:
                if not failing:
                    log.warning("heartbeat failed", extra={"action": "heartbeat_failed", "reason": str(error)})
                failing = True
            else:
                if failing:
                    log.info("heartbeat works again", extra={"action": "heartbeat_restored"})
                failing = False

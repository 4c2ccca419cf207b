"""Outlive a database or broker that is away: wait for it, and say once that it is down and once that it is back."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from tagmill.db.connection import is_outage
from tagmill.errors import first_line

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0

_Result = TypeVar("_Result")


class StoppedError(Exception):
    """Raised in place of waiting on, because the process is to end."""


class Service:
    """Whether one service answers, as all threads of a process see it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._down_since: float | None = None
        self._back_since = float("-inf")
        #: the threads that try again what failed
        self._trying: set[int] = set()
        self._lock = threading.Lock()

    def failed(self, error: Exception, *, again: bool = False) -> None:
        """Note a failure; the first one is logged. With `again`, this thread asks the same until it is answered."""
        with self._lock:
            if again:
                self._trying.add(threading.get_ident())
            if self._down_since is not None:
                return
            self._down_since = time.monotonic()
        reason = first_line(error)
        # In the words, too: the commands' log shows nothing else.
        fields = {"action": f"{self._name}_down", "reason": reason}
        log.warning("%s is down (%s); waiting for it", self._name, reason, extra=fields)

    def answered(self, asked: float) -> None:
        """Note that it answered what this thread asked at `asked`, by the monotonic clock.

        The first answer after a failure is logged. One to a question from before the failure says nothing, nor does one
        to another question than those that failed and are asked again: what is read from a full disk was never away.
        """
        with self._lock:
            self._trying.discard(threading.get_ident())
            if self._down_since is None or asked <= self._down_since or self._trying:
                return
            self._back_since = time.monotonic()
            seconds = round(self._back_since - self._down_since, 1)
            self._down_since = None
        log.warning("%s is back", self._name, extra={"action": f"{self._name}_back", "seconds": seconds})

    def stop_retrying(self) -> None:
        """Note that this thread does not ask again what failed; whether it is back others have to find out."""
        with self._lock:
            self._trying.discard(threading.get_ident())

    def is_stable(self, seconds: float) -> bool:
        """Return whether it has answered for so long."""
        with self._lock:
            return self._down_since is None and time.monotonic() - self._back_since > seconds


class Services:
    """The two that a worker needs, and whether it is about to end."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self.database = Service("database")
        self.broker = Service("broker")
        self.stopping = stopping

    def retry_until_available(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work` on the database returns, however long that is away. Raises StoppedError at the end."""
        try:
            return self._retry_until_available(work)
        finally:
            self.database.stop_retrying()

    def note(self, error: Exception) -> bool:
        """Note which service is down; return False where `error` says something else.

        For threads that do one thing again and again.
        """
        if isinstance(error, SQLAlchemyError):
            if is_outage(error):
                self.database.failed(error, again=True)
            return is_outage(error)
        # redis-py's errors have a base of their own, which is not imported where the broker is no Redis.
        down = isinstance(error, (OperationalError, OSError)) or type(error).__module__.startswith("redis.")
        if down:
            self.broker.failed(error)
        return down

    def _retry_until_available(self, work: Callable[[], _Result]) -> _Result:
        pause = FIRST_PAUSE_SECONDS
        while True:
            asked = time.monotonic()
            try:
                result = work()
            except SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                self.database.failed(error, again=True)
                if self._stopped_within(pause):
                    raise StoppedError from error
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self.database.answered(asked)
                return result

    def _stopped_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.stopping():
                return True
            time.sleep(0.1)
        return self.stopping()

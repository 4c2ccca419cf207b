"""The inference calls that a session has in work, each of which can be cut off."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class StalledCallError(Exception):
    """An inference call was cut off because it took too long."""


@dataclass(eq=False)
class _Running:
    """One call in work."""

    #: asks the library to end it
    end: Callable[[], None]
    since: float
    #: when it was asked
    asked: float | None = None


class CallTracker:
    """Start and end of each call in work. One instance serves all threads."""

    def __init__(self) -> None:
        self._running: set[_Running] = set()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, end: Callable[[], None]) -> Iterator[None]:
        """Count one call while it runs; `end` asks its library to end it. Raises StalledCallError where it was asked.

        `end` is never called after this returns: what it ends may serve another call by then.
        """
        call = _Running(end, time.monotonic())
        with self._lock:
            self._running.add(call)
        try:
            yield
        except Exception as error:  # the libraries raise families of their own without a common base
            if call.asked is not None:
                raise StalledCallError("the model did not end in time") from error
            raise
        finally:
            with self._lock:
                self._running.discard(call)

    def cut(self, seconds: float) -> int:
        """Ask the calls that run longer than `seconds` to end; return how many were asked now.

        The libraries look at it between two nodes of the graph.
        """
        now = time.monotonic()
        with self._lock:
            late = [call for call in self._running if call.asked is None and now - call.since > seconds]
            for call in late:
                call.asked = now
                call.end()
        return len(late)

    def longest(self) -> float:
        """Return the seconds of the call that goes on the longest after it was asked to end; 0 where none does."""
        with self._lock:
            asked = [call.asked for call in self._running if call.asked is not None]
        return time.monotonic() - min(asked) if asked else 0.0

    def discount(self, seconds: float) -> None:
        """Do not count these `seconds` to the calls in work: until now the process did not run."""
        now = time.monotonic()
        with self._lock:
            for call in self._running:
                # None is put into the future: some may have begun since the process woke.
                call.since = min(now, call.since + seconds)
                if call.asked is not None:
                    call.asked = min(now, call.asked + seconds)

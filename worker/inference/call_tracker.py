"""The running inference calls of a session; each can be cancelled."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class StalledCallError(Exception):
    """Raised for an inference call that was cancelled because it took too long."""


class BusyClock:
    """Counts the seconds in which at least one call runs."""

    def __init__(self) -> None:
        self._running = 0
        self._since = 0.0
        self._counted = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the block as a call."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._counted += time.monotonic() - self._since

    def seconds(self) -> float:
        """Return the seconds up to now."""
        with self._lock:
            return self._counted + (time.monotonic() - self._since if self._running else 0.0)


#: of all sessions of this process
DEVICE_CLOCK = BusyClock()


@dataclass(eq=False)
class _Call:
    """One running call. Times are monotonic seconds."""

    #: asks the library to end the call
    cancel: Callable[[], None]
    started: float
    cancelled: float | None = None


class CallTracker:
    """Tracks the running calls of one session. One instance serves all threads."""

    def __init__(self) -> None:
        self._running: set[_Call] = set()
        self._lock = threading.Lock()

    @contextmanager
    def track(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Track one call while the block runs. Raise StalledCallError if the call fails after it was cancelled.

        `cancel` asks the library to end the call. It is never called after the block: the object that it cancels may
        serve another call by then.
        """
        call = _Call(cancel, time.monotonic())
        with self._lock:
            self._running.add(call)
        try:
            with DEVICE_CLOCK.running():
                yield
        except Exception as error:  # the libraries' exceptions have no common base
            if call.cancelled is not None:
                raise StalledCallError("the model did not end in time") from error
            raise
        finally:
            with self._lock:
                self._running.discard(call)

    def cancel_stalled(self, seconds: float) -> int:
        """Cancel the calls that have run longer than `seconds`; return how many.

        The libraries check for it between two nodes of the graph.
        """
        now = time.monotonic()
        with self._lock:
            late = [call for call in self._running if call.cancelled is None and now - call.started > seconds]
            for call in late:
                call.cancelled = now
                call.cancel()
        return len(late)

    def longest_overdue(self) -> float:
        """Return the most seconds that a call has run since it was cancelled; 0 if there is no such call."""
        with self._lock:
            cancelled = [call.cancelled for call in self._running if call.cancelled is not None]
        return time.monotonic() - min(cancelled) if cancelled else 0.0

    def discount(self, seconds: float) -> None:
        """Do not count the last `seconds`, in which the process was suspended, as time of the running calls."""
        now = time.monotonic()
        with self._lock:
            for call in self._running:
                # Calls that began after the process woke must not begin in the future.
                call.started = min(now, call.started + seconds)
                if call.cancelled is not None:
                    call.cancelled = min(now, call.cancelled + seconds)

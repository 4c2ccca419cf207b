"""Read from a service no more often than it takes well, and never wait for it for long."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from tagmill.errors import first_line

log = logging.getLogger(__name__)

#: seconds for which what was read counts, however fast reading is
LEAST_SECONDS = 5.0
#: the longest share of the time in which a service is read
BUSY_SHARE = 0.05
#: seconds that an answer may be waited for; Prometheus waits for 10 seconds unless it is told otherwise
WAIT_SECONDS = 5.0

_Found = TypeVar("_Found")


class Cached(Generic[_Found]):
    """What `read` returned last. Readers that come at once share one call, and a call that hangs has one thread."""

    def __init__(self, name: str, read: Callable[[], _Found], wait_seconds: float = WAIT_SECONDS) -> None:
        """`name` is that of the service in the log."""
        self._name = name
        self._read = read
        self._wait = wait_seconds
        self._found: _Found | None = None
        #: monotonic time from which on it is read again
        self._again_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._was_down = False
        #: seconds that the last call took
        self.seconds = 0.0
        #: why nothing could be read; None if it was
        self.reason: str | None = None

    def get(self) -> _Found | None:
        """Return what was read a moment ago; None if the service is down or does not answer in time."""
        with self._lock:
            if self._thread is None and time.monotonic() >= self._again_at:
                self._thread = threading.Thread(target=self._run, name=f"read {self._name}", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(self._wait)
            if thread.is_alive():
                self._note(f"no answer within {self._wait:.0f} s")
                return None
        return self._found

    def _run(self) -> None:
        began = time.monotonic()
        found, reason = None, None
        try:
            found = self._read()
        except Exception as error:  # of a driver, or a refusal: the next call tries again
            reason = first_line(error)
        self.seconds = time.monotonic() - began
        self._note(reason)
        with self._lock:
            self._found, self._thread = found, None
            self._again_at = began + max(LEAST_SECONDS, self.seconds / BUSY_SHARE)

    def _note(self, reason: str | None) -> None:
        """Log that the service is down, and that it is back, once each."""
        self.reason = reason
        if reason is not None and not self._was_down:
            log.warning("%s: %s", self._name, reason, extra={"action": f"{self._name}_down", "reason": reason})
        elif reason is None and self._was_down:
            log.warning("%s is back", self._name, extra={"action": f"{self._name}_back"})
        self._was_down = reason is not None

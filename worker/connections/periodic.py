"""A thread that repeats a call, even after a service was down."""

import logging
import threading
from collections.abc import Callable

from worker.connections.availability import Services

log = logging.getLogger(__name__)


class Periodic(threading.Thread):
    """Calls `work` at once and then every `seconds`, until it is stopped or the process ends."""

    def __init__(self, name: str, seconds: float, work: Callable[[], object], services: Services) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._work = work
        self._services = services
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End after the current call."""
        self._stopped.set()

    def run(self) -> None:
        """Call `work` repeatedly. An error is logged, or noted if a service is down; the next call tries again."""
        while True:
            try:
                self._work()
            except Exception as error:
                if not self._services.note(error):
                    # Never end: without this thread leases expire and lost batches are not found.
                    log.exception("%s failed", self.name, extra={"action": f"{self.name}_failed"})
            if self._stopped.wait(self._seconds):
                return

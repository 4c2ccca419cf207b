"""A thread that does one thing again and again, also after a service was down."""

import logging
import threading
from collections.abc import Callable

from worker.connections.availability import Services

log = logging.getLogger(__name__)


class Periodic(threading.Thread):
    """CallTracker `work` at once and then every `seconds`, until it is stopped or the process ends."""

    def __init__(self, name: str, seconds: float, work: Callable[[], object], services: Services) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._work = work
        self._services = services
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End after the turn in hand."""
        self._stopped.set()

    def run(self) -> None:
        """Do the work; a service that is down is noted, and the next turn tries again."""
        while True:
            try:
                self._work()
            except Exception as error:
                if not self._services.note(error):
                    # Without it leases end and lost work is not found: it goes on, and says what is wrong.
                    log.exception("%s failed", self.name, extra={"action": f"{self.name}_failed"})
            if self._stopped.wait(self._seconds):
                return

"""Log calls that a service does not answer in time, while they wait: the whole fleet may be waiting."""

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.connections.availability import Services
from worker.connections.periodic import Periodic

log = logging.getLogger(__name__)

#: seconds after which a call counts as slow; a claim usually takes milliseconds
SLOW_SECONDS = 5.0
#: seconds between two looks at the calls that wait
LOOK_SECONDS = 1.0


class SlowCalls:
    """One thread for all claims of a process; it logs those that have waited for `SLOW_SECONDS`, each once."""

    def __init__(self, services: Services) -> None:
        self._numbers = itertools.count()
        #: number of a call -> monotonic time of its begin, and what it is about
        self._began: dict[int, tuple[float, dict[str, int]]] = {}
        self._logged: set[int] = set()
        self._thread = Periodic("slow_calls", LOOK_SECONDS, self._look, services)
        self._thread.start()

    @contextmanager
    def noticed(self, **about: int) -> Iterator[None]:
        """Log the claim in the block if it waits for long, and that it was answered after that, with these fields."""
        number = next(self._numbers)
        began = time.monotonic()
        self._began[number] = began, about
        try:
            yield
        finally:
            del self._began[number]
            if number in self._logged:
                self._logged.discard(number)
                seconds = round(time.monotonic() - began, 1)
                fields = {"action": "claim_answered", "seconds": seconds, **about}
                log.warning("the database answered", extra=fields)

    def stop(self) -> None:
        """End the thread."""
        self._thread.stop()

    def _look(self) -> None:
        now = time.monotonic()
        for number, (began, about) in list(self._began.items()):
            if now - began > SLOW_SECONDS and number not in self._logged:
                self._logged.add(number)
                fields = {"action": "claim_waits", "seconds": round(now - began, 1), **about}
                log.warning("a claim is waiting for the database", extra=fields)

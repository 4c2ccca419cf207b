"""Give up waits for busy hosts soon after the process was asked to end, so that a stop takes seconds, not minutes."""

import time
from collections.abc import Sequence

from worker.connections.availability import Services
from worker.connections.periodic import Periodic
from worker.sources.host_pool import HostPool

#: seconds for which images may still wait for their host: a batch that ends in that time need not be fetched again
PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.25


class Draining:
    """A thread that ends what waits for a host in `pools` once the process has been ending for `PATIENCE_SECONDS`.

    Requests under way go on. The batches that lack an image are given back.
    """

    def __init__(self, pools: Sequence[HostPool], services: Services) -> None:
        self._pools = pools
        self._services = services
        self._since: float | None = None
        self._thread = Periodic("draining", _LOOK_SECONDS, self._look, services)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._thread.stop()

    def _look(self) -> None:
        if not self._services.stopping():
            return
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since >= PATIENCE_SECONDS:
            for pool in self._pools:
                pool.stop_waiting()

"""A thread that does one thing again and again, and says once when it fails and once when it works again."""

import logging
import threading
from collections.abc import Callable

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)

#: a service that is down: the next turn tries again
SERVICE_DOWN = (SQLAlchemyError, OperationalError, RedisError, OSError)


class Periodic(threading.Thread):
    """Calls `work` every `seconds` until it is stopped or the process ends."""

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._work = work
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End after the turn in hand."""
        self._stopped.set()

    def run(self) -> None:
        failing = False
        while not self._stopped.wait(self._seconds):
            try:
                self._work()
            except SERVICE_DOWN as error:
                if not failing:
                    reason = str(error).partition("\n")[0]
                    log.warning("%s fails", self.name, extra={"action": f"{self.name}_fails", "reason": reason})
                failing = True
            else:
                if failing:
                    log.info("%s works again", self.name, extra={"action": f"{self.name}_restored"})
                failing = False

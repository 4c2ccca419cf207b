"""Wait for a database or broker that is down; log that it is down, each new reason, and that it is back."""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.refusal import broker_refusal
from tagmill.db.outages.outage import is_outage
from tagmill.errors import BrokerRefusedError, DatabaseRefusedError, first_line

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0
#: reasons of one outage that are logged
MOST_REASONS = 5
#: ports, ids and times, which may differ from one failure to the next for the same reason
_NUMBERS = re.compile(r"\d+")

_Result = TypeVar("_Result")


class StoppedError(Exception):
    """Raised instead of waiting any longer, because the process is ending."""


class StoppedWaitingError(StoppedError):
    """The same while images wait for their host: the database is not concerned, and gets the batch back."""


class Service:
    """Whether a service answers, shared by all threads of a process."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: monotonic time of the first failure since it last answered; None while it answers
        self.down_since: float | None = None
        #: how often it went down
        self.outages = 0
        #: the reasons of this outage that were logged
        self._reasons: set[str] = set()
        self._back_since = float("-inf")
        #: threads that retry a failed call
        self._trying: set[int] = set()
        self._lock = threading.Lock()

    def failed(self, error: Exception, *, retried: bool = False) -> None:
        """Record a failure; log the first one, and others for a new reason. With `retried`, this thread retries."""
        reason = first_line(error)
        with self._lock:
            if retried:
                self._trying.add(threading.get_ident())
            if _NUMBERS.sub("", reason) in self._reasons or len(self._reasons) == MOST_REASONS:
                return
            self._reasons.add(_NUMBERS.sub("", reason))
            began = self.down_since is None
            self.outages += began
            self.down_since = self.down_since or time.monotonic()
        # Also in the message: the commands' log shows no other field.
        fields = {"action": f"{self.name}_{'down' if began else 'still_down'}", "reason": reason}
        event = "%s is down (%s); waiting for it" if began else "%s is still down, now because: %s"
        log.warning(event, self.name, reason, extra=fields)

    def answered(self, asked: float) -> None:
        """Record a success of a call begun at `asked`, in monotonic seconds.

        It ends the outage, which is logged, only if the call began after it and no failed call is still retried: a read
        from a full disk succeeds during the outage.
        """
        with self._lock:
            self._trying.discard(threading.get_ident())
            if self.down_since is None or asked <= self.down_since or self._trying:
                return
            self._back_since = time.monotonic()
            seconds = round(self._back_since - self.down_since, 1)
            self.down_since = None
            self._reasons.clear()
        log.warning("%s is back", self.name, extra={"action": f"{self.name}_back", "seconds": seconds})

    def stop_retrying(self) -> None:
        """Record that this thread gave up its retries; other threads find out when the service is back."""
        with self._lock:
            self._trying.discard(threading.get_ident())

    def is_stable(self, seconds: float) -> bool:
        """Return whether it has answered for at least `seconds`."""
        with self._lock:
            return self.down_since is None and time.monotonic() - self._back_since > seconds


class Services:
    """The database and the broker of a worker, and whether the worker is ending.

    `end` is called once if one of them refuses connections for a reason that waiting does not change. It has the
    process end with `ExitCode.CONFIGURATION`.
    """

    def __init__(self, stopping: Callable[[], bool] = lambda: False, end: Callable[[], object] = lambda: None) -> None:
        self.database = Service("database")
        self.broker = Service("broker")
        self.stopping = stopping
        #: why one of them refuses connections
        self.refusal: DatabaseRefusedError | BrokerRefusedError | None = None
        self._end = end

    def refused(self, error: DatabaseRefusedError | BrokerRefusedError) -> None:
        """Record that a service refuses connections, and end the process. Log the first refusal."""
        if self.refusal is None:
            self.refusal = error
            action = "database_refused" if isinstance(error, DatabaseRefusedError) else "broker_refused"
            log.error("%s", error, extra={"action": action, "reason": str(error)})
            self._end()

    def retry_until_available(self, work: Callable[[], _Result]) -> _Result:
        """Return the result of `work` on the database; repeat it while the database is down.

        Raise StoppedError if the process is ending meanwhile, and every error of `work` that is not an outage.
        """
        asked = time.monotonic()
        try:
            result = work()
        except SQLAlchemyError as error:
            return self.retry_after(error, work)
        self.database.answered(asked)
        return result

    def retry_after(self, error: SQLAlchemyError, work: Callable[[], _Result]) -> _Result:
        """Repeat `work`, which failed with `error`, until the database is back. See `retry_until_available`."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                if not is_outage(error):
                    raise error
                self.database.failed(error, retried=True)
                if self._stopped_within(pause):
                    raise StoppedError from error
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                asked = time.monotonic()
                try:
                    result = work()
                except SQLAlchemyError as another:
                    error = another
                else:
                    self.database.answered(asked)
                    return result
        finally:
            self.database.stop_retrying()

    def note(self, error: Exception) -> bool:
        """Record which service is down; return False if `error` is not an outage. For threads that repeat one call.

        End the process if one of them refuses connections.
        """
        if isinstance(error, (DatabaseRefusedError, BrokerRefusedError)):
            self.refused(error)
            return True
        if isinstance(error, SQLAlchemyError):
            if is_outage(error):
                self.database.failed(error, retried=True)
            return is_outage(error)
        # redis-py's errors have their own base class; redis-py is imported only if the broker is a Redis.
        down = isinstance(error, (OperationalError, OSError)) or type(error).__module__.startswith("redis.")
        if down:
            self.note_broker(error)
        return down

    def note_broker(self, error: Exception) -> None:
        """Record that the broker is down, or end the process if it refuses connections."""
        if reason := broker_refusal(error):
            self.refused(BrokerRefusedError(reason))
        else:
            self.broker.failed(error)

    def _stopped_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.stopping():
                return True
            time.sleep(0.1)
        return self.stopping()

"""Deadlines and a memory limit for a process with threads; Python and Celery have none for threads."""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from worker.inference.session_cache import SessionCache
from worker.supervision.memory import resident_bytes
from worker.supervision.process import ProcessEnd, grace_seconds
from worker.timeout_pool import TimeoutPool

log = logging.getLogger(__name__)

#: seconds between two checks
CHECK_SECONDS = 0.25
#: seconds since the last check after which this process counts as suspended in between
SUSPENDED_SECONDS = 1.0
#: stall times that loading a bundle may take: a network drive and the first CUDA context may be slow
LOADING_STALL_TIMES = 5


class RecycleReason(StrEnum):
    """Why a process should end between two batches."""

    #: one of its threads is stuck with an image that was abandoned
    STUCK_THREAD = "stuck_thread"
    #: it exceeds its memory limit
    MEMORY = "memory"
    #: the device of its models no longer works
    DEVICE = "device"


class Watchdog:
    """A thread that abandons stuck images, cancels stalled inference calls, and ends the process if that does not help.

    Time during which the process is suspended (SIGSTOP, a paused container) is not counted. `recycle` is called at each
    check while the process should end after its current batches. With `last_resort`, a process in which one thread
    holds Python's lock for too long is ended, too. So is a process that was suspended for as long, when it wakes: the
    timer cannot distinguish the two.
    """

    def __init__(
        self,
        pools: Sequence[TimeoutPool],
        sessions: SessionCache,
        stall_seconds: float,
        memory_limit: int,
        recycle: Callable[[RecycleReason], None],
        *,
        last_resort: bool,
    ) -> None:
        self._pools = pools
        self._sessions = sessions
        self._stall = stall_seconds
        self._grace = grace_seconds(stall_seconds)
        self._memory_limit = memory_limit
        self._recycle = recycle
        self._last_resort = last_resort
        self._lost_thread = False
        #: when it last checked, in monotonic seconds
        self.checked_at = time.monotonic()
        self._stopped = threading.Event()
        self._rearm_hard_timeout()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        checked = time.monotonic()
        while not self._stopped.wait(CHECK_SECONDS):
            self._rearm_hard_timeout()
            now = time.monotonic()
            if now - checked > SUSPENDED_SECONDS:
                self._discount(now - checked - CHECK_SECONDS)
            checked = self.checked_at = now
            self._check()
        if self._last_resort:
            faulthandler.cancel_dump_traceback_later()

    def _rearm_hard_timeout(self) -> None:
        if self._last_resort:
            # A timer in C, which needs no lock of Python: it fires even if this thread can no longer run.
            faulthandler.dump_traceback_later(self._stall + self._grace, exit=True)

    def _discount(self, seconds: float) -> None:
        log.info("the process was suspended", extra={"action": "process_suspended", "seconds": round(seconds, 1)})
        for pool in self._pools:
            pool.discount(seconds)
        self._sessions.discount(seconds)

    def _check(self) -> None:
        if images := sum(pool.abandon_stuck(self._stall) for pool in self._pools):
            log.error("stuck images were abandoned", extra={"action": "images_timed_out", "images": images})
            self._lost_thread = True
        if calls := self._sessions.cancel_stalled(self._stall):
            log.error("stalled inference calls were cancelled", extra={"action": "calls_cancelled", "calls": calls})
        if (
            self._sessions.longest_overdue_call() > self._grace
            or self._sessions.seconds_loading() > LOADING_STALL_TIMES * self._stall
        ):
            log.critical("a model is stuck; the process ends", extra={"action": "worker_stuck"})
            os._exit(ProcessEnd.STUCK)
        if self._lost_thread:
            self._recycle(RecycleReason.STUCK_THREAD)
        elif resident_bytes() > self._memory_limit:
            self._recycle(RecycleReason.MEMORY)

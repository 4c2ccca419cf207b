"""Deadlines and a memory limit for a process of threads, which Python and Celery give none."""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from worker.inference.session_cache import SessionCache
from worker.supervision.memory import resident_bytes
from worker.supervision.process import ProcessEnd
from worker.timeout_pool import TimeoutPool

log = logging.getLogger(__name__)

#: seconds between two looks
LOOK_SECONDS = 0.25
#: seconds since the last look that show that this process did not run: it was stopped, frozen, or held up as a whole
SLEPT_SECONDS = 1.0
#: least seconds that an inference call has to end after it was told to, before it is ended with its process
GRACE_SECONDS = 5.0
#: deadlines that loading a bundle may take: a network drive may be slow, and CUDA's first context is
LOADING_DEADLINES = 5


class RecycleReason(StrEnum):
    """Why a process should end between two batches."""

    #: a thread of it is stuck with an image that was given up
    STUCK_THREAD = "stuck_thread"
    #: it holds more memory than it may
    MEMORY = "memory"
    #: the device of its models answers no more
    DEVICE = "device"


class Watchdog:
    """A thread that gives up stuck images, cuts off inference calls, and ends the process where that does not help.

    Time in which the process is stopped (SIGSTOP, a paused container) counts for nothing: nobody could get on with
    anything. `recycle` is called, at each look again, while the process should end after the batches in hand. With
    `last_resort`, a process that holds Python's lock for good is ended, too; one that was stopped for as long ends when
    it wakes, as the timer that does it cannot tell the two apart.
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
        self._grace = max(GRACE_SECONDS, stall_seconds / 2)
        self._memory_limit = memory_limit
        self._recycle = recycle
        self._last_resort = last_resort
        self._lost_thread = False
        self._stopped = threading.Event()
        self._rearm_hard_timeout()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stopped.wait(LOOK_SECONDS):
            self._rearm_hard_timeout()
            now = time.monotonic()
            if now - looked > SLEPT_SECONDS:
                self._discount(now - looked - LOOK_SECONDS)
            looked = now
            self._look()
        if self._last_resort:
            faulthandler.cancel_dump_traceback_later()

    def _rearm_hard_timeout(self) -> None:
        if self._last_resort:
            # A timer in C, which needs no lock of Python's: it fires where this thread does not get on any more.
            faulthandler.dump_traceback_later(self._stall + self._grace, exit=True)

    def _discount(self, seconds: float) -> None:
        log.info("the process did not run", extra={"action": "process_slept", "seconds": round(seconds, 1)})
        for pool in self._pools:
            pool.discount(seconds)
        self._sessions.discount(seconds)

    def _look(self) -> None:
        if images := sum(pool.abandon_stuck(self._stall) for pool in self._pools):
            log.error("images given up", extra={"action": "images_given_up", "images": images})
            self._lost_thread = True
        if calls := self._sessions.cut(self._stall):
            log.error("inference calls cut off", extra={"action": "calls_cut", "calls": calls})
        if self._sessions.longest_call() > self._grace or self._sessions.loading() > LOADING_DEADLINES * self._stall:
            log.critical("a model is stuck; the process ends", extra={"action": "worker_stuck"})
            os._exit(ProcessEnd.STUCK)
        if self._lost_thread:
            self._recycle(RecycleReason.STUCK_THREAD)
        elif resident_bytes() > self._memory_limit:
            self._recycle(RecycleReason.MEMORY)

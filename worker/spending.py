"""What each batch takes of this process: the CPU time of all its threads, and the time of inference calls on a GPU.

Batches share the threads that fetch, decode and infer, and one inference call may serve several batches, so no clock of
a thread says what a batch took. The clock of the process does for all of them: what it counts is split in equal parts
among the batches in work at each moment. The parts add up to what the process took. With runs that need very unequal
work beside each other, the one that mostly waits for hosts pays for a part of the other's.
"""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: runs whose rest is kept for their next batch
MOST_RUNS = 100


class SharedClock:
    """Splits what a clock counts among those that use it at the same time, in equal parts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds that never decrease."""
        self._clock = clock
        self._users: list[Callable[[float], None]] = []
        self._counted = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def used(self, take: Callable[[float], None]) -> Iterator[None]:
        """Call `take` with parts of the seconds that are counted during the block. It must not use this clock."""
        with self._lock:
            self._split()
            self._users.append(take)
        try:
            yield
        finally:
            with self._lock:
                self._split()
                self._users.remove(take)

    def settle(self) -> None:
        """Give every user its part up to now."""
        with self._lock:
            self._split()

    def _split(self) -> None:
        now = self._clock()
        for take in self._users:
            take((now - self._counted) / len(self._users))
        self._counted = now


#: calls that overlap on the GPU of this process share its time
GPU_CLOCK = SharedClock(time.perf_counter)


class Account:
    """Seconds that a batch took and that were not written to SQL yet."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.gpu_seconds = 0.0
        self._lock = threading.Lock()

    def add_cpu(self, seconds: float) -> None:
        """Add seconds of a core."""
        with self._lock:
            self.cpu_seconds += seconds

    def add_gpu(self, seconds: float) -> None:
        """Add seconds of the GPU."""
        with self._lock:
            self.gpu_seconds += seconds

    def take(self) -> tuple[float, float]:
        """Return the seconds of cores and of the GPU, and set both to 0."""
        with self._lock:
            taken = self.cpu_seconds, self.gpu_seconds
            self.cpu_seconds = self.gpu_seconds = 0.0
        return taken


_current: ContextVar[Account | None] = ContextVar("account", default=None)


def current_account() -> Account | None:
    """Return the account of the batch that the calling thread works for; threads of the pools know it, too."""
    return _current.get()


class Spending:
    """The accounts of the batches of one process, and what is left of them for the next batch of their run."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = SharedClock(clock)
        #: run -> accounts of its batches that ended
        self._left: dict[int, list[Account]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of_batch(self, run_id: int) -> Iterator[Callable[[], tuple[float, float]]]:
        """Yield a function that returns the seconds of cores and of the GPU that the batch took since the last call.

        What it takes after that, such as the writing of its results or a failed attempt, is added to the next batch of
        its run.
        """
        with self._lock:
            left = self._left.setdefault(run_id, [])
            account = left.pop() if left else Account()

        def taken() -> tuple[float, float]:
            self._clock.settle()
            return account.take()

        token = _current.set(account)
        try:
            with self._clock.used(account.add_cpu):
                yield taken
        finally:
            _current.reset(token)
            with self._lock:
                self._left.setdefault(run_id, []).append(account)
                while len(self._left) > MOST_RUNS:  # the oldest: messages may name runs that there are none of
                    del self._left[next(iter(self._left))]


@contextmanager
def counting_children() -> Iterator[None]:
    """Add to the current account the CPU time of the child processes that end during the block.

    No two blocks may run at the same time.
    """
    before = _children_seconds()
    try:
        yield
    finally:
        if account := current_account():
            account.add_cpu(_children_seconds() - before)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

"""Threads that fetch URLs: each host at its own pace, none of them before its turn, and none that waits.

A thread takes the download of the host that has the fewest requests under way, among those whose turn it is, and some
threads are left to other hosts. So a slow or busy host holds up its own images only.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from tagmill.fetch_options import HostLimits
from worker.connections.availability import StoppedWaitingError
from worker.sources.download import Download, NotYet, Reader
from worker.sources.pace import Paces
from worker.sources.terms import Terms
from worker.sources.validators import Answer
from worker.timeout_pool import Task, TimeoutPool

#: threads beside those for one host, as a part of them
SPARE_PART = 4

_Result = TypeVar("_Result")


class _Job:
    """A download, what is done with its answer, and the future of its result."""

    def __init__(self, download: Download, work: Callable[[Answer], Any]) -> None:
        self.download = download
        self.work = work
        self.result: Future[Any] = Future()

    def run(self) -> Any:
        return self.work(self.download.run())


class _HostQueue:
    """The downloads that wait, by host. `get` waits until a host's turn comes, and takes it."""

    def __init__(self, paces: Paces, most: int) -> None:
        """`most` is how many requests may be under way to one host."""
        self._paces = paces
        self._limiter = paces.limiter
        self._limiter.granted.append(self._look_again)
        self._most = most
        #: host, and what the run may ask of it -> heap of (when it may go on, number, job)
        self._lines: dict[tuple[str, HostLimits | None], list[tuple[float, int, _Job]]] = {}
        self._under_way: Counter[str] = Counter()
        self._numbers = count()
        self._closing = self._stopped = False
        self._condition = threading.Condition()
        #: whether a thread waits for the next turn; all others wait for it
        self._timed = False

    def put(self, task: Task | None) -> None:
        """Close the queue; it takes no tasks of other pools."""
        assert task is None, "downloads are added by `add`"
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def add(self, jobs: Iterable[_Job], at: float) -> None:
        """Add jobs that may go on at `at`."""
        with self._condition:
            if self._stopped:
                _end(jobs)
                return
            for job in jobs:
                host, limits = job.download.host, job.download.limits
                if limits:
                    self._limiter.expect(host, limits)
                heappush(self._lines.setdefault((host, limits), []), (at, next(self._numbers), job))
            self._condition.notify_all()

    def stop(self) -> None:
        """End the jobs that wait, and those that will."""
        with self._condition:
            self._stopped = True
            waiting = [job for line in self._lines.values() for *_, job in line]
            for job in waiting:
                if job.download.limits:
                    self._limiter.leave(job.download.host, job.download.limits)
            self._lines.clear()
            self._condition.notify_all()
            _end(waiting)

    def get(self) -> Task | None:
        """Wait for a job, and return one attempt at it. Return None when the queue is closed and empty."""
        with self._condition:
            while True:
                job, until = self._next(time.monotonic())
                if job is not None:
                    self._condition.notify()  # another thread waits for the next turn
                    return self._attempt(job)
                if self._closing and not self._lines:
                    return None
                if self._timed or until == math.inf:
                    self._condition.wait()
                    continue
                self._timed = True
                self._condition.wait(max(0.0, until - time.monotonic()))
                self._timed = False

    def _next(self, now: float) -> tuple[_Job | None, float]:
        """Take the next job; if there is none yet, return when to look again."""
        chosen: tuple[str, HostLimits | None] | None = None
        fewest, until = math.inf, math.inf
        for (host, limits), line in self._lines.items():
            if self._under_way[host] >= self._most:
                continue  # the thread that ends one of them looks again
            at, begins = max(line[0][0], self._paces.turn_at(host)), now
            hopeless = line[0][2].download.hopeless_at()
            if limits:
                begins = self._limiter.begins_at(host, now)
            if begins > now and hopeless > now:
                until = min(until, max(at, begins), hopeless)
            elif at > now and hopeless > now and at < hopeless:
                until = min(until, at)
            elif self._under_way[host] < fewest:
                chosen, fewest = (host, limits), self._under_way[host]
                if not fewest:
                    break
        if chosen is None:
            return None, until
        line = self._lines.pop(chosen)
        *_, job = heappop(line)
        if line:
            self._lines[chosen] = line  # at the end: the others are looked at first
        job.download.take_turn(now)
        if job.download.limits:
            self._limiter.leave(job.download.host, job.download.limits)
        return job, until

    def _look_again(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _attempt(self, job: _Job) -> Task:
        host = job.download.host
        self._under_way[host] += 1
        attempt: Future[Any] = Future()
        attempt.add_done_callback(lambda ended: self._ended(job, host, ended))
        return attempt, job.run

    def _ended(self, job: _Job, host: str, attempt: Future[Any]) -> None:
        with self._condition:
            self._under_way[host] -= 1
            if not self._under_way[host]:
                del self._under_way[host]
        error = attempt.exception()
        if isinstance(error, NotYet):
            self.add([job], error.until)
        elif error is not None:
            job.result.set_exception(error)
        else:
            job.result.set_result(attempt.result())


def _end(jobs: Iterable[_Job]) -> None:
    for job in jobs:
        job.result.set_exception(StoppedWaitingError("the worker is ending"))


class HostPool(TimeoutPool):
    """A pool of threads for URLs. An attempt that takes too long is abandoned; waiting for a host is no attempt."""

    def __init__(self, threads: int, paces: Paces) -> None:
        """`threads` is how many may be busy with one host. They start when the first URL is fetched."""
        self._queue = _HostQueue(paces, threads)
        self._starting = threading.Lock()
        super().__init__(0, "fetch", self._queue)
        self._most = threads + math.ceil(threads / SPARE_PART)

    def stop_waiting(self) -> None:
        """End what waits for its turn or its host with StoppedWaitingError: the process is ending."""
        self._queue.stop()

    def fetch(
        self, wanted: Iterable[tuple[str, Terms]], work: Callable[[Answer], _Result], reader: Reader
    ) -> list[Future[_Result]]:
        """Start to fetch URLs; return the future of what `work` makes of the answer to each, in the threads here."""
        self._start_threads()
        jobs = [_Job(Download(url, reader, terms), work) for url, terms in wanted]
        self._queue.add(jobs, time.monotonic())
        return [job.result for job in jobs]

    def _start_threads(self) -> None:
        with self._starting:
            while self.threads < self._most:
                self.threads += 1
                self._start_thread()

"""The processes of the workers of `benchmarks.worker.fleet`."""

import multiprocessing
import time
from contextlib import suppress
from threading import BrokenBarrierError
from types import TracebackType
from typing import Self

from benchmarks.support.fleet.load import Load, Place
from benchmarks.support.fleet.worker import START_SECONDS, Report, run_process

#: seconds without a finished batch after which a run counts as stuck
STUCK_SECONDS = 60.0
#: seconds between two looks at the number of finished batches
LOOK_SECONDS = 0.05
#: what the process that the others are forked from has loaded
LOADED = [f"benchmarks.support.fleet.{name}" for name in ("worker", "site", "sampling", "postgres")]


class Crew:
    """The processes of the workers, connected and waiting. `with` ends them."""

    def __init__(self, place: Place, load: Load) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        self._ready, self._stopped = context.Barrier(load.processes + 1), context.Event()
        self._done = context.Value("q", 0)
        self._reports, self._processes = [], []
        for first in range(load.processes):
            mine, theirs = context.Pipe(duplex=False)
            numbers = range(first, load.workers, load.processes)
            given = (numbers, place, load, self._ready, self._stopped, self._done, theirs)
            self._processes.append(context.Process(target=run_process, args=given, daemon=True))
            self._reports.append(mine)

    @property
    def pids(self) -> list[int]:
        """The process ids."""
        return [process.pid for process in self._processes if process.pid is not None]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        for process in self._processes:
            process.join(10)
            process.kill()

    def run(self, batches: int) -> Report:
        """Let the workers begin; return what they did when this many batches are finished.

        Raise RuntimeError if one of them fails or none finishes a batch for a minute.
        """
        with suppress(BrokenBarrierError):  # a process failed; its report says why
            self._ready.wait(START_SECONDS)
            self._wait(batches)
        self._stopped.set()
        whole = Report([])
        for reports in self._reports:
            silent = Report([], error="a process did not end")
            report = reports.recv() if reports.poll(STUCK_SECONDS) else silent
            whole.finished += report.finished
            whole.dropped += report.dropped
            whole.error = whole.error or report.error
        if whole.error or len(whole.finished) < batches:
            raise RuntimeError(f"{len(whole.finished)} of {batches} batches were finished:\n{whole.error or ''}")
        return whole

    def _wait(self, batches: int) -> None:
        last, seen = time.monotonic(), 0
        while self._done.value < batches and not self._stopped.wait(LOOK_SECONDS):
            if self._done.value != seen:
                last, seen = time.monotonic(), self._done.value
            elif time.monotonic() - last > STUCK_SECONDS:
                return

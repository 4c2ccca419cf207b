"""A thread pool whose stuck tasks can be abandoned, and whose tasks are chunks of small items."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from tagmill.outcomes import ErrorCode, ImageFailure

#: most items of one chunk: handing over a task and its result takes about as long as reading a small file
LARGEST_CHUNK = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
#: a call, and the future of its result
Task = tuple[Future[Any], Callable[[], Any]]


class Tasks(Protocol):
    """A queue of tasks; None ends the thread that gets it."""

    def put(self, task: Task | None) -> None:
        """Add a task."""

    def get(self) -> Task | None:
        """Wait for the next task."""


class TimeoutPool(Executor):
    """A thread pool for work that may never return.

    Python cannot end a thread. An abandoned task fails with `timed_out`, and a new thread takes over from its thread,
    which ends when the task does.
    """

    def __init__(self, threads: int, name: str = "decode", tasks: Tasks | None = None) -> None:
        self._name = name
        self._tasks = tasks or SimpleQueue()
        self.threads = threads
        #: thread id -> task it runs, and since when
        self._running: dict[int, tuple[Future[Any], float]] = {}
        self._lock = threading.Lock()
        self._closed = False
        for _ in range(threads):
            self._start_thread()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Queue a call. Raise RuntimeError after `shutdown`."""
        if self._closed:
            raise RuntimeError("the pool is closed")
        future: Future[_Result] = Future()
        # In the context of the caller, so that what the thread logs names the batch.
        self._tasks.put((future, partial(copy_context().run, fn, *args, **kwargs)))
        return future

    def run(
        self,
        work: Callable[[_Item], _Result],
        failed: Callable[[_Item, Exception], _Result],
        items: Sequence[_Item],
        largest: int = LARGEST_CHUNK,
    ) -> list[_Result]:
        """Do `work` for all items, and return their results in order. See `start`."""
        return self.start(work, failed, items, largest).results()

    def start(
        self,
        work: Callable[[_Item], _Result],
        failed: Callable[[_Item, Exception], _Result],
        items: Sequence[_Item],
        largest: int = LARGEST_CHUNK,
    ) -> "Work[_Item, _Result]":
        """Start work on all items, in chunks small enough to keep every thread busy.

        `failed` makes the result of an item whose work raised, or was abandoned.
        """
        size = max(1, min(largest, len(items) // (2 * self.threads)))
        return Work([_Chunk(self, work, failed, items[at : at + size]) for at in range(0, len(items), size)])

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the threads after the queued tasks. Never wait: a task may be stuck."""
        self._closed = True
        for _ in range(self.threads):
            self._tasks.put(None)

    def abandon_stuck(self, seconds: float) -> int:
        """Fail every task that made no progress for `seconds`; return their number."""
        now = time.monotonic()
        with self._lock:
            stuck = {thread: future for thread, (future, since) in self._running.items() if now - since > seconds}
            for thread in stuck:
                del self._running[thread]
        for future in stuck.values():
            self._start_thread()
            future.set_exception(ImageFailure(ErrorCode.TIMED_OUT, f"neither read nor decoded after {seconds:g} s"))
        return len(stuck)

    def discount(self, seconds: float) -> None:
        """Do not count the last `seconds`, in which the process was suspended, as time of the running tasks."""
        now = time.monotonic()
        with self._lock:
            # Tasks that began after the process woke must not begin in the future.
            self._running = {
                thread: (future, min(now, since + seconds)) for thread, (future, since) in self._running.items()
            }

    def _start_thread(self) -> None:
        # A daemon thread: one that is stuck forever must not keep the process alive.
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        thread = threading.get_ident()
        while (task := self._tasks.get()) is not None:
            future, call = task
            if not future.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._running[thread] = (future, time.monotonic())
            result: Any = None
            failure: BaseException | None = None
            try:
                result = call()
            except BaseException as error:
                failure = error
            with self._lock:
                if self._running.pop(thread, (None,))[0] is not future:
                    return  # abandoned: another thread has taken over
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
            # A waiting thread keeps nothing alive: a session may hold a GPU's memory.
            del task, future, call, result, failure


class Work(Generic[_Item, _Result]):
    """Chunks of items that threads of a pool work on."""

    def __init__(self, chunks: "list[_Chunk[_Item, _Result]]") -> None:
        self.chunks = chunks

    def results(self) -> list[_Result]:
        """Wait, and return one result per item, in their order."""
        return [result for chunk in self.chunks for result in chunk.results()]


class _Chunk(Generic[_Item, _Result]):
    """Items that one thread works on in turn; an item that gets stuck is abandoned alone."""

    def __init__(
        self,
        pool: TimeoutPool,
        work: Callable[[_Item], _Result],
        failed: Callable[[_Item, Exception], _Result],
        items: Sequence[_Item],
    ) -> None:
        self._pool = pool
        self._work = work
        self._failed = failed
        self._items = items
        self._done: list[_Result] = []
        self._future = pool.submit(self._run, self._done)

    def results(self) -> list[_Result]:
        while True:
            try:
                self._future.result()
            except Exception as error:  # the pool abandoned the item in work; its thread keeps the old list
                done = [*self._done]
                done.append(self._failed(self._items[len(done)], error))
                self._done = done
                self._future = self._pool.submit(self._run, done)
            else:
                return self._done

    def _run(self, done: list[_Result]) -> None:
        pool, thread = self._pool, threading.get_ident()
        for item in self._items[len(done) :]:
            try:
                result = self._work(item)
            except Exception as error:
                result = self._failed(item, error)
            with pool._lock:
                if thread not in pool._running:
                    return  # abandoned
                # The time of each item counts from here.
                pool._running[thread] = (pool._running[thread][0], time.monotonic())
            done.append(result)

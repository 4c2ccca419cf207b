"""Threads that fetch, decode or infer, one of which may get stuck without taking the others along."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

from tagmill.outcomes import ErrorCode, ImageFailure

_Result = TypeVar("_Result")
_Task = tuple[Future[Any], Callable[[], Any]]


class TimeoutPool(Executor):
    """A thread pool whose tasks can be given up.

    Python cannot end a thread. A task that is given up fails with `timed_out`, a new thread takes the place of its own,
    and that one ends whenever the task does.
    """

    def __init__(self, threads: int, name: str = "decode") -> None:
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self.threads = threads
        #: thread number -> what it works on, since when
        self._running: dict[int, tuple[Future[Any], float]] = {}
        self._lock = threading.Lock()
        self._closed = False
        for _ in range(threads):
            self._start_thread()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Queue a call. Raises RuntimeError after `shutdown`."""
        if self._closed:
            raise RuntimeError("the pool is closed")
        future: Future[_Result] = Future()
        self._tasks.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the threads after what is queued. Never waits: one of them may be stuck."""
        self._closed = True
        for _ in range(self.threads):
            self._tasks.put(None)

    def heartbeat(self) -> bool:
        """Say, from within a task, that it is not stuck: its time starts anew. Returns False if it was given up."""
        thread = threading.get_ident()
        with self._lock:
            if thread not in self._running:
                return False
            self._running[thread] = (self._running[thread][0], time.monotonic())
            return True

    def abandon_stuck(self, seconds: float) -> int:
        """Fail every task that did not go on for `seconds`; return how many these are."""
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
        """Do not count these `seconds` to the tasks in work: until now the process did not run."""
        now = time.monotonic()
        with self._lock:
            # None is put into the future: some may have begun since the process woke.
            self._running = {
                thread: (future, min(now, since + seconds)) for thread, (future, since) in self._running.items()
            }

    def _start_thread(self) -> None:
        # A daemon: a thread that is stuck for good must not keep the process from its end.
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
                    return  # given up: another thread is in this one's place
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
            # A thread that waits keeps nothing alive: a session that it made may hold a GPU's memory.
            del task, future, call, result, failure

"""Many small pieces of work in a pool of threads: several in one task, each with an outcome and a deadline of its own.

Handing a task to a thread and its result back takes about as long as reading a small file.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from worker.threads.timeout_pool import TimeoutPool

#: items of one task, at most
LARGEST = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Chunk(Generic[_Item, _Result]):
    """Items that one thread works on in turn."""

    def __init__(
        self,
        pool: TimeoutPool,
        work: Callable[[_Item], _Result],
        failed: Callable[[_Item, Exception], _Result],
        items: Sequence[_Item],
    ) -> None:
        """`failed` makes a result of an item whose work raised, or was given up by the pool."""
        self._pool = pool
        self._work = work
        self._failed = failed
        self._items = items
        self._done: list[_Result] = []
        self._future = pool.submit(self._run, self._done)

    def results(self) -> list[_Result]:
        """Wait; return one result for each item, in their order."""
        while True:
            try:
                self._future.result()
            except Exception as error:  # the pool gave up the item in work: its thread keeps the old list for itself
                done = [*self._done]
                done.append(self._failed(self._items[len(done)], error))
                self._done = done
                self._future = self._pool.submit(self._run, done)
            else:
                return self._done

    def _run(self, done: list[_Result]) -> None:
        for item in self._items[len(done) :]:
            try:
                result = self._work(item)
            except Exception as error:
                result = self._failed(item, error)
            if not self._pool.heartbeat():
                return
            done.append(result)


def start(
    pool: TimeoutPool,
    work: Callable[[_Item], _Result],
    failed: Callable[[_Item, Exception], _Result],
    items: Sequence[_Item],
    largest: int = LARGEST,
) -> list[Chunk[_Item, _Result]]:
    """Begin to work on the items, in groups that leave no thread of the pool idle."""
    size = max(1, min(largest, len(items) // (2 * pool.threads)))
    return [Chunk(pool, work, failed, items[begin : begin + size]) for begin in range(0, len(items), size)]


def collect(groups: Iterable[Chunk[_Item, _Result]]) -> list[_Result]:
    """Wait for the results of all groups, in their order."""
    return [result for group in groups for result in group.results()]

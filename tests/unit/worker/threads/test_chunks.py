"""Several items in one task of a pool: each has its own result, failure and deadline."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from worker.threads.chunks import LARGEST, collect, start
from worker.threads.timeout_pool import TimeoutPool


@pytest.fixture
def pool() -> Iterator[TimeoutPool]:
    pool = TimeoutPool(2)
    yield pool
    pool.shutdown()


def failed(item: int, error: Exception) -> str:
    return f"{item}: {type(error).__name__}"


@pytest.mark.parametrize("count", [0, 1, 3, 64, 100])
def test_results_come_in_the_order_of_the_items(pool: TimeoutPool, count: int) -> None:
    assert collect(start(pool, str, failed, range(count))) == [str(number) for number in range(count)]


def test_no_thread_of_the_pool_is_idle_and_no_group_is_too_large(pool: TimeoutPool) -> None:
    assert len(start(pool, str, failed, range(8))) == 4
    assert len(start(pool, str, failed, range(100 * LARGEST))) == 100
    assert len(start(pool, str, failed, range(100), largest=1)) == 100


def test_a_thread_that_waits_keeps_no_result_and_no_failure_alive() -> None:
    class Large:
        def __call__(self, *, fails: bool) -> "Large":
            if fails:
                raise ValueError(self)
            return self

    pool = TimeoutPool(1)
    for fails in (False, True):
        large = Large()
        kept = weakref.ref(large)
        wait([pool.submit(large, fails=fails)])
        del large
        deadline = time.monotonic() + 10
        while kept() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
            gc.collect()
        assert kept() is None
    pool.shutdown()


def test_an_item_that_raises_fails_alone(pool: TimeoutPool) -> None:
    def work(item: int) -> str:
        return str(1 // (item - 5))

    found = collect(start(pool, work, failed, range(64)))
    assert found[5] == "5: ZeroDivisionError"
    assert all("Error" not in result for result in found[:5] + found[6:])


def test_an_item_that_is_stuck_is_given_up_alone_and_what_it_does_later_counts_no_more() -> None:
    pool = TimeoutPool(1)
    stuck, free = threading.Event(), threading.Event()
    seen: list[int] = []

    def work(item: int) -> str:
        seen.append(item)
        if item == 3 and seen.count(3) == 1:
            stuck.set()
            free.wait(10)
        return str(item)

    groups = start(pool, work, failed, range(LARGEST * 2))
    assert len(groups) == 2
    assert stuck.wait(10)
    time.sleep(0.02)
    assert pool.abandon_stuck(0.01) == 1
    found = collect(groups)
    assert found == ["3: ImageFailure" if number == 3 else str(number) for number in range(LARGEST * 2)]
    free.set()
    time.sleep(0.1)
    assert collect(groups) == found
    assert sorted(seen) == list(range(LARGEST * 2))
    pool.shutdown()


def test_a_group_is_not_stuck_while_its_items_come_through() -> None:
    pool = TimeoutPool(1)

    def work(item: int) -> str:
        time.sleep(0.1)
        return str(item)

    found: list[str] = []
    waiting = threading.Thread(target=lambda: found.extend(collect(start(pool, work, failed, range(LARGEST)))))
    waiting.start()
    while waiting.is_alive():
        assert pool.abandon_stuck(0.3) == 0
        time.sleep(0.01)
    assert found == [str(number) for number in range(LARGEST)]
    pool.shutdown()

"""Chunks of items in one task of a pool: each item has its own result, failure and deadline."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import wait
from contextvars import ContextVar
from types import SimpleNamespace

import pytest

from worker.timeout_pool import LARGEST_CHUNK, TimeoutPool


@pytest.fixture
def pool() -> Iterator[TimeoutPool]:
    pool = TimeoutPool(2)
    yield pool
    pool.shutdown()


def failed(item: int, error: Exception) -> str:
    return f"{item}: {type(error).__name__}"


@pytest.mark.parametrize("count", [0, 1, 3, 64, 100])
def test_results_are_in_the_order_of_the_items(pool: TimeoutPool, count: int) -> None:
    assert pool.start(str, failed, range(count)).results() == [str(number) for number in range(count)]


def test_no_thread_of_the_pool_is_idle_and_no_chunk_is_too_large(pool: TimeoutPool) -> None:
    assert len(pool.start(str, failed, range(8)).chunks) == 4
    assert len(pool.start(str, failed, range(100 * LARGEST_CHUNK)).chunks) == 100
    assert len(pool.start(str, failed, range(100), largest=1).chunks) == 100


def test_a_waiting_thread_keeps_no_result_and_no_failure_alive() -> None:
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
        deadline = time.monotonic() + 60
        while kept() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
            gc.collect()
        assert kept() is None
    pool.shutdown()


def test_an_item_that_raises_fails_alone(pool: TimeoutPool) -> None:
    def work(item: int) -> str:
        return str(1 // (item - 5))

    found = pool.start(work, failed, range(64)).results()
    assert found[5] == "5: ZeroDivisionError"
    assert all("Error" not in result for result in found[:5] + found[6:])


def test_a_stuck_item_is_abandoned_alone_and_its_late_result_is_ignored() -> None:
    pool = TimeoutPool(1)
    stuck, free = threading.Event(), threading.Event()
    seen: list[int] = []

    def work(item: int) -> str:
        seen.append(item)
        if item == 3 and seen.count(3) == 1:
            stuck.set()
            free.wait(60)
        return str(item)

    started = pool.start(work, failed, range(LARGEST_CHUNK * 2))
    assert len(started.chunks) == 2
    assert stuck.wait(60)
    time.sleep(0.02)
    assert pool.abandon_stuck(0.01) == 1
    found = started.results()
    assert found == ["3: ImageFailure" if number == 3 else str(number) for number in range(LARGEST_CHUNK * 2)]
    free.set()
    time.sleep(0.1)
    assert started.results() == found
    assert sorted(seen) == list(range(LARGEST_CHUNK * 2))
    pool.shutdown()


def test_a_chunk_is_not_stuck_while_its_items_make_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("worker.timeout_pool.time", SimpleNamespace(monotonic=lambda: now))
    pool = TimeoutPool(1)

    def work(item: int) -> str:
        nonlocal now
        now += 0.9
        return f"{item}, {pool.abandon_stuck(1.0)} stuck"

    started = pool.start(work, failed, range(LARGEST_CHUNK * 2))
    assert len(started.chunks[0].results()) == LARGEST_CHUNK > 1
    assert started.results() == [f"{number}, 0 stuck" for number in range(LARGEST_CHUNK * 2)]
    pool.shutdown()


def test_a_task_runs_in_the_context_of_its_caller() -> None:
    pool, batch = TimeoutPool(1), ContextVar("batch", default=0)
    for number in (1, 2):
        batch.set(number)
        assert pool.submit(batch.get).result(60) == number
    pool.shutdown()

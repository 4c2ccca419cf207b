"""What batches take adds up to what their process takes."""

import subprocess
import sys
import threading
import time

import pytest

from worker.spending import MOST_RUNS, SharedClock, Spending, counting_children, current_account
from worker.timeout_pool import TimeoutPool


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_a_clock_counts_is_split_among_those_that_use_it_at_that_moment() -> None:
    now, one, two = Clock(), list[float](), list[float]()
    clock = SharedClock(now)
    now.now += 5  # nobody uses it
    with clock.used(one.append):
        now.now += 3
        with clock.used(two.append):
            now.now += 4
        now.now += 1
    assert (sum(one), sum(two)) == (6.0, 2.0)


def test_what_a_batch_takes_after_it_was_counted_is_added_to_the_next_batch_of_its_run() -> None:
    now = Clock()
    spending = Spending(now)
    with spending.of_batch(1) as taken:
        now.now += 2
        assert taken() == (2.0, 0.0)
        now.now += 1  # its results are written
    with spending.of_batch(1):
        now.now += 10  # this attempt fails
    with spending.of_batch(2) as taken:
        assert taken() == (0.0, 0.0)
    with spending.of_batch(1) as taken:
        assert taken() == (11.0, 0.0)


def test_the_threads_of_the_pools_know_the_batch_that_they_work_for() -> None:
    spending, pool = Spending(), TimeoutPool(1)
    with spending.of_batch(1) as taken:
        account = pool.submit(current_account).result()
        assert account is not None
        account.add_gpu(3.0)
        assert taken()[1] == 3.0
    assert current_account() is None
    pool.shutdown()


def test_the_cpu_time_of_all_threads_and_of_child_processes_is_counted() -> None:
    spending, began, taken_by = Spending(), time.process_time(), list[float]()
    start = threading.Barrier(3)

    def work() -> None:
        with spending.of_batch(1) as taken:
            start.wait()
            until = time.thread_time() + 0.05
            while time.thread_time() < until:
                pass
            taken_by.append(taken()[0])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken_by) == pytest.approx(time.process_time() - began, rel=0.2, abs=0.02)
    with spending.of_batch(2) as taken:
        with counting_children():
            subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
        assert taken()[0] > 0.02


def test_runs_that_there_are_none_of_are_forgotten() -> None:
    now = Clock()
    spending = Spending(now)
    for run_id in range(MOST_RUNS + 1):
        with spending.of_batch(run_id):
            now.now += 1
    for run_id, left in ((0, 0.0), (MOST_RUNS, 1.0)):
        with spending.of_batch(run_id) as taken:
            assert taken() == (left, 0.0)

"""Deadlines and the memory limit of a process with threads."""

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.bundles import BAD_RED, write_classifier, write_endless_classifier
from support.image_fixtures import write_image
from support.processes import wait_until

from tagmill import machine as machine_module
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.records import Outcome
from tagmill.settings import Settings
from worker.inference.call_tracker import CallTracker, StalledCallError
from worker.inference.session_cache import NamedBundles, SessionCache
from worker.pipeline.attempt import to_result
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.tagger import build_tagger
from worker.sources.fetcher import Fetched
from worker.sources.terms import Terms
from worker.supervision.memory import memory_limit, resident_bytes
from worker.supervision.process import ProcessEnd
from worker.supervision.watchdog import CHECK_SECONDS, RecycleReason, Watchdog
from worker.timeout_pool import TimeoutPool


@pytest.fixture
def pool() -> Iterator[TimeoutPool]:
    pool = TimeoutPool(2)
    yield pool
    pool.shutdown()


Watch = Callable[..., list[RecycleReason]]


@pytest.fixture
def watch(pool: TimeoutPool) -> Iterator[Watch]:
    """Start watchdogs, which end with the test; each call returns the list of its recycle reasons."""
    started: list[Watchdog] = []

    def start(
        sessions: SessionCache,
        stall: float = 60.0,
        memory_limit: int = 2**60,
        pools: Sequence[TimeoutPool] = (pool,),
    ) -> list[RecycleReason]:
        asked: list[RecycleReason] = []
        started.append(Watchdog(pools, sessions, stall, memory_limit, asked.append, last_resort=False))
        return asked

    yield start
    for watchdog in started:
        watchdog.stop()


def test_a_pool_returns_results_and_errors(pool: TimeoutPool) -> None:
    assert list(pool.map(lambda number: number * 2, range(50))) == [number * 2 for number in range(50)]
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result()


def test_a_closed_pool_finishes_queued_tasks_and_takes_no_more() -> None:
    pool = TimeoutPool(1)
    futures = [pool.submit(lambda: 1) for _ in range(5)]
    pool.shutdown()
    assert sum(future.result(60) for future in futures) == 5
    with pytest.raises(RuntimeError):
        pool.submit(lambda: 1)


def test_a_stuck_task_is_abandoned_and_its_thread_replaced(pool: TimeoutPool) -> None:
    release, at_work = threading.Event(), threading.Semaphore(0)
    stuck = [pool.submit(lambda: (at_work.release(), release.wait())) for _ in range(2)]
    behind = pool.submit(lambda: "done")
    for _ in stuck:
        assert at_work.acquire(timeout=60)
    time.sleep(0.1)
    assert pool.abandon_stuck(0.05) == 2
    for future in stuck:
        with pytest.raises(ImageFailure) as caught:
            future.result(0)
        assert caught.value.code is ErrorCode.TIMED_OUT
    assert behind.result(60) == "done"
    release.set()
    assert list(pool.map(abs, range(20))) == list(range(20))
    assert pool.abandon_stuck(0.0) == 0


def test_a_task_that_waits_behind_others_is_not_abandoned(pool: TimeoutPool) -> None:
    release = threading.Event()
    for _ in range(2):
        pool.submit(release.wait)
    behind = pool.submit(lambda: "done")
    time.sleep(0.1)
    assert pool.abandon_stuck(60) == 0
    release.set()
    assert behind.result(60) == "done"


def test_a_stuck_image_fails_alone_and_the_process_asks_to_be_recycled(
    pool: TimeoutPool, watch: Watch, tmp_path: Path
) -> None:
    paths = [write_image(tmp_path / f"{number}.png", "red", shade=number) for number in range(4)]
    tagger = build_tagger(Settings(decode_threads=2), NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")}))
    release = threading.Event()
    fetcher = tagger.fetcher((str(tmp_path),))
    read = fetcher.fetch

    def fetch(uri: str, terms: Terms | None = None) -> Fetched:
        if uri.endswith("2.png"):
            release.wait()
        return read(uri, terms)

    fetcher.fetch = fetch  # type: ignore[method-assign]
    asked = watch(tagger.sessions, stall=5.0, pools=tagger.pools.watched)  # so long that the others are read
    images = [BatchImage(number, str(path)) for number, path in enumerate(paths)]
    tagged = tagger.tag(images, [tagger.sessions.get("colors")], (str(tmp_path),))
    release.set()
    codes = {image.position: image.code for image in tagged}
    assert codes == {0: None, 1: None, 2: ErrorCode.TIMED_OUT, 3: None}
    wait_until(lambda: RecycleReason.STUCK_THREAD in asked, 60, "the watchdog to ask for a new process")


def test_an_inference_that_does_not_end_is_cancelled(pool: TimeoutPool, watch: Watch, tmp_path: Path) -> None:
    tagger = build_tagger(Settings(), NamedBundles({"endless": write_endless_classifier(tmp_path / "e.onnx")}))
    asked = watch(tagger.sessions, stall=0.3)
    session = tagger.sessions.get("endless")
    with pytest.raises(Exception, match="did not end in time"):
        session.run(np.full((2, 16, 16, 3), BAD_RED, dtype=np.uint8))
    assert asked == []


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[tuple[BaseProcess, Connection]]:
    """A new process that runs `work`, and a connection to receive its messages."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    started = context.Process(target=work, args=(there, *arguments), daemon=True)
    started.start()
    there.close()
    try:
        yield started, here
    finally:
        started.kill()
        started.join()


def suspend_for(seconds: float, process: BaseProcess) -> None:
    """Suspend it, as Ctrl-Z or a paused container does."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGCONT)


def received(connection: Connection) -> Any:
    assert connection.poll(120), "the process sent nothing"
    return connection.recv()


def work_half_a_second() -> None:
    """Work for half a second; time during which the process is suspended does not count."""
    for _ in range(50):
        time.sleep(0.01)


def work_on_two_images(connection: Connection) -> None:
    """Work on one image that makes progress and one that is stuck; send when the second one is abandoned."""
    pool = TimeoutPool(2)
    Watchdog([pool], SessionCache(Settings(), NamedBundles({})), 4.0, 2**60, lambda reason: None, last_resort=True)
    began = time.monotonic()
    tasks = [pool.submit(work_half_a_second), pool.submit(time.sleep, 3600)]
    connection.send(began)
    codes = [getattr(task.exception(), "code", None) for task in tasks]
    connection.send((codes, time.monotonic()))


def test_a_suspended_process_fails_no_good_image_and_abandons_a_stuck_one_later() -> None:
    with process(work_on_two_images) as (started, connection):
        began = received(connection)
        suspend_for(4.5, started)  # longer than an image may take
        codes, abandoned = received(connection)
        assert codes == [None, ErrorCode.TIMED_OUT]
        # The time before the suspension counts, the suspension itself does not.
        assert abandoned - began > 4.5 + 4.0 - 2 * CHECK_SECONDS


def infer_endlessly(connection: Connection, bundle: Path) -> None:
    sessions = SessionCache(Settings(device="cpu"), NamedBundles({"endless": bundle}))
    session = sessions.get("endless")
    Watchdog([], sessions, 0.5, 2**60, lambda reason: None, last_resort=False)
    connection.send("at work")
    try:
        session.run(np.full((2, 16, 16, 3), BAD_RED, dtype=np.uint8))
    except StalledCallError as error:
        connection.send(str(error))


def test_a_cancelled_inference_has_time_to_end_even_if_the_process_was_suspended(tmp_path: Path) -> None:
    with process(infer_endlessly, write_endless_classifier(tmp_path / "e.onnx")) as (started, connection):
        assert received(connection) == "at work"
        suspend_for(6, started)  # longer than a cancelled inference may take before its process is ended
        assert received(connection) == "the model did not end in time"
        started.join(60)
        assert started.exitcode == 0


def infer_and_ignore_cancel(connection: Connection, bundle: Path) -> None:
    sessions = SessionCache(Settings(device="cpu"), NamedBundles({"colors": bundle}))
    Watchdog([], sessions, 0.5, 2**60, lambda reason: None, last_resort=False)
    with sessions.get("colors").calls.track(lambda: connection.send(time.monotonic())):
        time.sleep(3600)


def test_an_inference_that_ignores_cancellation_is_ended_with_its_process(tmp_path: Path) -> None:
    with process(infer_and_ignore_cancel, write_classifier(tmp_path / "c.onnx")) as (started, connection):
        cancelled = received(connection)
        started.join(60)
        assert started.exitcode == ProcessEnd.STUCK
        assert time.monotonic() - cancelled > 4


def test_the_grace_of_an_inference_begins_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("worker.inference.call_tracker.time", SimpleNamespace(monotonic=lambda: now))
    calls, cancelled = CallTracker(), threading.Event()
    with calls.track(cancelled.set):
        now += 20
        assert calls.longest_overdue() == 0.0
        assert (calls.cancel_stalled(10), cancelled.is_set()) == (1, True)
        assert calls.longest_overdue() == 0.0
        now += 10
        assert calls.longest_overdue() == 10.0
    assert calls.longest_overdue() == 0.0


def test_a_process_over_its_memory_limit_asks_to_be_recycled(pool: TimeoutPool, watch: Watch) -> None:
    sessions = SessionCache(Settings(), NamedBundles({}))
    large, small = watch(sessions, memory_limit=1), watch(sessions)
    wait_until(lambda: RecycleReason.MEMORY in large, 60, "the watchdog to see the memory")
    assert small == []


def test_memory_is_measured_and_limited_by_machine_container_or_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resident_bytes()
    # A new mapping: memory that earlier tests gave back to the allocator is already resident.
    with mmap.mmap(-1, 50 * 2**20) as held:
        for place in range(0, len(held), mmap.PAGESIZE):
            held[place] = 1
        assert resident_bytes() - before > 40 * 2**20
    assert memory_limit(123) == 123
    limit = tmp_path / "memory.max"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(machine_module, "_MOUNTS", mounts)
    monkeypatch.setattr(machine_module, "_OWN_CGROUPS", tmp_path / "none")
    limit.write_text("max\n")
    machine = memory_limit(0)
    limit.write_text(f"{2**20}\n")
    assert memory_limit(0) == 2**20 * 3 // 4 < machine


def test_an_unexpected_error_of_one_image_does_not_affect_the_others(pool: TimeoutPool, tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", "red")
    tagger = build_tagger(Settings(decode_threads=2), NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")}))
    fetcher = tagger.fetcher((str(tmp_path),))
    read = fetcher.fetch
    fetcher.fetch = lambda uri, terms=None: read(uri, terms) if "good" in uri else [][0]  # type: ignore[method-assign]
    images = [BatchImage(0, str(tmp_path / "good.png")), BatchImage(1, "bug")]
    tagged = tagger.tag(images, [tagger.sessions.get("colors")], (str(tmp_path),))
    good, failed = to_result(tagged).outcomes
    assert failed == Outcome(1, None, ErrorCode.FETCH_FAILED, "IndexError: list index out of range")
    assert (good.position, good.error_code) == (0, None)

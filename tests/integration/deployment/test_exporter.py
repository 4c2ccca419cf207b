"""What the exporter says of queues, runs and workers; and what it says while a service is down."""

import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text
from support.ledger import QUEUE, batches, new_model, new_run, published_run, take
from support.processes import TAGMILL, Worker, environment, tagmill, wait_until
from support.scraped import Scraped, samples
from support.services import RedisServer, free_port

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.exporter.cached import Cached
from tagmill.exporter.pages import Exporter
from tagmill.ledger.faults.runs import RunFault, report_run_fault
from tagmill.ledger.faults.workers import FaultReason, report_fault
from tagmill.ledger.fleet.workers import Identity, WorkerState, begin, report
from tagmill.ledger.runs.control import pause_run
from tagmill.ledger.runs.create import LOCAL_QUEUE_PREFIX, cancel_run
from tagmill.settings import Settings

NORMAL = {"queue": QUEUE, "priority": "normal"}


def test_it_counts_what_sql_says_and_leaves_out_what_no_worker_would_take(engine: Engine, database_url: str) -> None:
    fill(engine)
    found = samples(Exporter(Settings(database_url=database_url, queue="other")).metrics())

    def value(name: str, **labels: str) -> float:
        return found.get((f"tagmill_{name}", frozenset(labels.items())), -1.0)

    assert [value("queue_images", **NORMAL, status=status) for status in ("queued", "running")] == [6, 6]
    assert [value("queue_batches", **NORMAL, status=status) for status in ("queued", "running")] == [2, 2]
    assert 100 <= value("oldest_queued_seconds", **NORMAL) < 160
    assert value("oldest_queued_seconds", queue=QUEUE, priority="urgent") == 0
    assert value("queue_images", queue="other", priority="normal", status="queued") == 0
    assert {state: value("runs", state=state) for state in ("open", "paused", "cancelled", "done")} == {
        "open": 2,
        "paused": 1,
        "cancelled": 1,
        "done": 1,
    }
    assert (value("dead_batches", queue=QUEUE), value("dead_images", queue=QUEUE)) == (1, 3)
    assert [value("workers", queue=QUEUE, state=state) for state in ("starting", "ready", "out")] == [0, 1, 1]
    assert value("workers_out", queue=QUEUE, reason="folder") == 1
    assert (value("lease_expired"), value("runs_waiting_for_worker"), value("database_up")) == (1, 1, 1)
    assert not [labels for _, labels in found if any(LOCAL_QUEUE_PREFIX in word for _, word in labels)]
    assert value("broker_up") == -1.0  # memory://


def fill(engine: Engine) -> None:
    """Make runs, batches and workers in every state."""
    model = new_model(engine)
    working, held, dead = published_run(engine, model, 9), published_run(engine, model), published_run(engine, model)
    pause_run(engine, published_run(engine, model))
    cancel_run(engine, new_run(engine, model))
    local = published_run(engine, model)
    first, second, _ = batches(engine, working)
    assert take(engine, first)
    assert take(engine, second, "other", lease=-1.0)
    fault = RunFault(FaultReason.FOLDER, "it is empty", held, "f" * 64)
    report_run_fault(engine, fault, 600.0)
    report_fault(engine, "a:1", QUEUE, fault)
    for worker, state in (("a:1", WorkerState.OUT), ("a:2", WorkerState.READY), ("a:3", WorkerState.STOPPED)):
        identity = Identity(worker, f"{worker}@a", QUEUE, "cpu", "1")
        begin(engine, identity)
        report(engine, identity, state)
    with engine.begin() as connection:
        for statement in (
            "UPDATE run_fault SET since = since - 60",
            f"UPDATE batch SET published_at = published_at - 100 WHERE run_id = {working}",
            # One that is not due yet waits for nobody.
            f"UPDATE batch SET not_before = published_at + 900 WHERE run_id = {held}",
            f"UPDATE batch SET status = 'dead' WHERE run_id = {dead}",
            f"UPDATE run SET queue = '{LOCAL_QUEUE_PREFIX}1' WHERE id = {local}",
            f"UPDATE batch SET queue = '{LOCAL_QUEUE_PREFIX}1' WHERE run_id = {local}",
        ):
            connection.execute(text(statement))
    report_run_fault(engine, fault, 600.0)


def test_it_serves_beside_services_that_go_down_and_shows_nothing_old(
    tmp_path: Path, sqlite_url: str, own_redis_server: Callable[[], RedisServer]
) -> None:
    redis, scraped = own_redis_server(), Scraped(free_port())
    engine = connect(sqlite_url)
    upgrade(engine)
    env = environment(database_url=sqlite_url, broker_url=redis.url, metrics_port=scraped.port)
    with Worker(env, tmp_path / "exporter.log", [TAGMILL, "exporter"]) as exporter:
        wait_until(lambda: scraped.status("/live") == 200, 60, "the port to be open")
        assert scraped.reasons() == {}
        assert scraped.value("tagmill_broker_memory_bytes") > 100_000
        assert scraped.value("tagmill_queue_images", **NORMAL, status="queued") == 0
        redis.kill()
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE worker_state RENAME TO away"))
        wait_until(lambda: scraped.reasons().keys() == {"database", "broker"}, 60, "both to be down")
        assert "no such table: worker_state; run `tagmill db upgrade`" in scraped.reasons()["database"]
        names = {name for name, _ in scraped.metrics()}
        assert (scraped.value("tagmill_database_up"), scraped.value("tagmill_broker_up")) == (0, 0)
        assert not names & {"tagmill_queue_images", "tagmill_workers", "tagmill_broker_memory_bytes"}
        assert scraped.status("/live") == 200
        busy = tagmill("exporter", "--port", scraped.port, env=env, expect=78)
        assert "Address already in use; set TAGMILL_METRICS_PORT to a free port" in busy.stderr
        assert exporter.stop() == 0
        assert (exporter.log.count('"database_down"'), exporter.log.count('"broker_down"')) == (1, 1)
    engine.dispose()


def test_many_scrapes_share_one_reading_and_none_waits_for_one_that_hangs() -> None:
    calls, go_on = [], threading.Event()

    def read() -> int:
        calls.append(1)
        assert go_on.wait(60)
        return len(calls)

    cached = Cached("database", read, wait_seconds=0.05)
    assert [cached.get() for _ in range(3)] == [None] * 3
    go_on.set()
    wait_until(lambda: cached.get() == 1, 60, "the reading to end")
    assert [cached.get() for _ in range(3)] == [1] * 3
    assert len(calls) == 1

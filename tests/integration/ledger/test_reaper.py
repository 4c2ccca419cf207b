"""Find expired leases and lost messages, on SQLite and PostgreSQL."""

import threading
import time

from sqlalchemy import Engine, insert, text
from support.ledger import QUEUE, batches, new_run, take

from tagmill.db.schema import batch
from tagmill.ledger.progress import run_progress
from tagmill.ledger.reaper import (
    REAP_LIMIT,
    acquire_reaper_lock,
    mark_dead,
    reclaim_due,
    reclaim_lost,
    requeue_expired,
    requeue_owned,
)
from tagmill.ledger.runs import cancel_run
from tagmill.registry.models import Model


def test_one_worker_at_a_time_gets_the_reaper_lock(engine: Engine) -> None:
    start = threading.Barrier(6)
    turns: list[bool] = []

    def ask() -> None:
        start.wait()
        turns.append(acquire_reaper_lock(engine, QUEUE, 0.5))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == [False] * 5 + [True]
    assert acquire_reaper_lock(engine, "other", 0.5)
    time.sleep(0.6)
    assert acquire_reaper_lock(engine, QUEUE, 0.5)


def test_the_batches_of_a_dead_process_are_free_at_once(engine: Engine, model: Model) -> None:
    first, second = batches(engine, new_run(engine, model, images=2, batch_size=1))
    assert take(engine, first, "dead:1")
    assert take(engine, second, "alive:1")
    assert requeue_owned(engine, "dead") == 1
    assert [found for _, found in reclaim_due(engine, QUEUE)] == [first]
    assert take(engine, first, "alive:2") is not None


def test_a_lost_message_is_found_after_its_grace_period(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=3, batch_size=1)
    assert reclaim_lost(engine, QUEUE, grace_seconds=60) == [(run_id, found) for found in batches(engine, run_id)]
    assert reclaim_lost(engine, QUEUE, grace_seconds=60) == []
    assert len(reclaim_lost(engine, QUEUE, grace_seconds=0)) == 3


def test_a_call_reclaims_up_to_its_limit_even_with_statistics_from_before_a_large_submit(
    engine: Engine, model: Model
) -> None:
    run_id = new_run(engine, model)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            for table in ("batch", "run"):  # three images, one batch: what autovacuum saw before the submit
                connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
                connection.execute(text(f"ANALYZE {table}"))
    waiting = [{"run_id": run_id, "seq": number, "status": "queued", "attempts": 0} for number in range(1, 16_000)]
    with engine.begin() as connection:
        connection.execute(insert(batch), waiting)
    found = reclaim_lost(engine, QUEUE, grace_seconds=0)
    assert [number for _, number in found] == batches(engine, run_id)[:REAP_LIMIT]
    assert len(reclaim_lost(engine, QUEUE, grace_seconds=60)) == REAP_LIMIT


def test_a_reaper_leaves_the_runs_of_other_queues_alone(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    assert take(engine, batch_id, lease=0.01)
    time.sleep(0.03)
    assert requeue_expired(engine, "other") == 0
    assert mark_dead(engine, "other", max_attempts=1) == 0
    assert requeue_expired(engine, QUEUE) == 1
    assert reclaim_lost(engine, "other", grace_seconds=0) == []


def test_a_cancelled_run_ends_even_if_its_worker_was_killed(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    assert take(engine, batches(engine, run_id)[0], lease=0.01)
    cancel_run(engine, run_id)
    assert run_progress(engine, run_id).state == "running"
    time.sleep(0.05)
    assert requeue_expired(engine, QUEUE) == 1
    assert run_progress(engine, run_id).state == "cancelled"

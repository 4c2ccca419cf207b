"""Find expired leases and lost messages, on SQLite and PostgreSQL."""

import threading
import time

from sqlalchemy import Engine, insert, select, text, update
from support.ledger import QUEUE, batches, new_run, published_run, take

from tagmill.db.schema import batch, reaper, run
from tagmill.ledger.batches.positions import stored_positions
from tagmill.ledger.batches.reaper import (
    REAP_LIMIT,
    abandoned_runs,
    acquire_reaper_lock,
    mark_dead,
    reclaim_before,
    reclaim_due,
    reclaim_lost,
    reclaim_published_between,
    reclaim_retries,
    requeue_expired,
    requeue_owned,
)
from tagmill.ledger.runs.create import cancel_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.ledger.runs.publishing import PUBLISH_CHUNK, leave_publishing, take_unpublished
from tagmill.priority import Priority
from tagmill.registry.models import Model


def test_one_worker_at_a_time_gets_the_reaper_lock(engine: Engine) -> None:
    start = threading.Barrier(6)
    turns: list[bool] = []

    def ask() -> None:
        start.wait()
        turns.append(acquire_reaper_lock(engine, QUEUE, 60.0))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == [False] * 5 + [True]
    assert acquire_reaper_lock(engine, "other", 60.0)
    with engine.begin() as connection:
        connection.execute(update(reaper).values(next_look=reaper.c.next_look - 60.0))
    assert acquire_reaper_lock(engine, QUEUE, 60.0)


def test_the_batches_of_a_dead_process_are_free_at_once(engine: Engine, model: Model) -> None:
    first, second = batches(engine, new_run(engine, model, images=2, batch_size=1))
    assert take(engine, first, "dead:1")
    assert take(engine, second, "alive:1")
    assert requeue_owned(engine, "dead") == 1
    assert [found for _, found in reclaim_due(engine, QUEUE, Priority.NORMAL)] == [first]
    assert take(engine, first, "alive:2") is not None


def test_a_lost_message_is_found_after_its_grace_period(engine: Engine, model: Model) -> None:
    run_id = published_run(engine, model, images=3, batch_size=1)
    assert reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=60) == []
    time.sleep(0.01)
    assert reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=0) == [
        (run_id, found) for found in batches(engine, run_id)
    ]
    assert reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=60) == []


def test_a_batch_that_was_never_published_has_not_lost_its_message(engine: Engine, model: Model) -> None:
    new_run(engine, model, images=3, batch_size=1)
    for reclaim in (reclaim_lost, reclaim_retries):
        assert reclaim(engine, QUEUE, Priority.NORMAL, grace_seconds=-60) == []
    assert reclaim_due(engine, QUEUE, Priority.NORMAL) == []
    assert reclaim_before(engine, QUEUE, Priority.NORMAL, time.time() + 60) == []
    for retries in (False, True):
        assert reclaim_published_between(engine, QUEUE, Priority.NORMAL, 0.0, time.time() + 60, retries=retries) == []


def test_a_run_is_abandoned_once_its_producer_is_late_or_leaves_it(engine: Engine, model: Model) -> None:
    late, left, in_time, published = (new_run(engine, model, images=3, batch_size=1) for _ in range(4))
    assert abandoned_runs(engine, QUEUE) == []
    with engine.begin() as connection:
        connection.execute(update(run).where(run.c.id == late).values(publish_until=run.c.publish_until - 31.0))
    leave_publishing(engine, left)
    while take_unpublished(engine, published):
        pass
    leave_publishing(engine, published)  # nothing is left of it
    time.sleep(0.01)
    assert abandoned_runs(engine, QUEUE) == [late, left]
    assert abandoned_runs(engine, "other") == []
    assert take_unpublished(engine, late) == [(late, found) for found in batches(engine, late)]
    assert abandoned_runs(engine, QUEUE) == [left]  # whoever took the last batches has time to publish them
    assert take_unpublished(engine, late) == []
    cancel_run(engine, left)
    cancel_run(engine, in_time)
    assert abandoned_runs(engine, QUEUE) == []


def test_each_call_takes_the_next_chunk_of_unpublished_batches(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2 * PUBLISH_CHUNK + 3, batch_size=1)
    taken = [take_unpublished(engine, run_id) for _ in range(4)]
    assert [len(chunk) for chunk in taken] == [PUBLISH_CHUNK, PUBLISH_CHUNK, 3, 0]
    assert [found for chunk in taken for found in chunk] == [(run_id, found) for found in batches(engine, run_id)]
    with engine.connect() as connection:
        assert connection.execute(select(run.c.publish_until)).scalar_one() is None


def test_a_call_reclaims_up_to_its_limit_even_with_statistics_from_before_a_large_submit(
    engine: Engine, model: Model
) -> None:
    run_id = published_run(engine, model)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            for table in ("batch", "run"):  # three images, one batch: what autovacuum saw before the submit
                connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
                connection.execute(text(f"ANALYZE {table}"))
    same = {"run_id": run_id, "queue": QUEUE, "status": "queued", "attempts": 0}
    waiting = [
        same | {"seq": number, "published_at": float(number)} | stored_positions([number])
        for number in range(1, 16_000)
    ]
    with engine.begin() as connection:
        connection.execute(update(batch).values(published_at=0.0))
        connection.execute(insert(batch), waiting)
    all_batches = batches(engine, run_id)
    for part in (all_batches[:REAP_LIMIT], all_batches[REAP_LIMIT : 2 * REAP_LIMIT]):
        assert [number for _, number in reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=60)] == part


def test_a_reaper_leaves_the_runs_of_other_queues_alone(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, published_run(engine, model))
    assert take(engine, batch_id, lease=0.01)
    time.sleep(0.03)
    assert requeue_expired(engine, "other") == 0
    assert mark_dead(engine, "other", max_attempts=1) == 0
    assert requeue_expired(engine, QUEUE) == 1
    assert reclaim_lost(engine, "other", Priority.NORMAL, grace_seconds=0) == []


def test_a_cancelled_run_ends_even_if_its_worker_was_killed(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    assert take(engine, batches(engine, run_id)[0], lease=0.01)
    cancel_run(engine, run_id)
    assert run_progress(engine, run_id).state == "running"
    time.sleep(0.05)
    assert requeue_expired(engine, QUEUE) == 1
    assert run_progress(engine, run_id).state == "cancelled"

"""Claim, renew and release batches, on SQLite and PostgreSQL."""

import threading
import time

import pytest
from sqlalchemy import Engine, select, text, update
from support.ledger import QUEUE, batches, new_run, published_run, take
from support.processes import wait_until

from tagmill.db.schema import batch
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.batches.reaper import mark_dead, reclaim_due, reclaim_lost, requeue_expired
from tagmill.priority import Priority
from tagmill.registry.models import Model


def test_a_claim_returns_the_batch_and_a_second_claim_returns_none(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    claimed = take(engine, batch_id)
    assert claimed is not None
    assert [entry.uri for entry in claimed.images] == ["/pictures/0.jpg", "/pictures/1.jpg", "/pictures/2.jpg"]
    assert (claimed.models, claimed.roots, claimed.attempts) == (("f" * 64,), ("/pictures",), 1)
    assert take(engine, batch_id, "another") is None


def test_exactly_one_of_many_concurrent_claims_succeeds(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    start = threading.Barrier(8)
    won: list[str] = []

    def race(token: str) -> None:
        start.wait()
        if take(engine, batch_id, token):
            won.append(token)

    threads = [threading.Thread(target=race, args=(f"worker-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_the_same_token_claims_its_batch_again_without_another_attempt(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    first, again = take(engine, batch_id, "me"), take(engine, batch_id, "me")
    assert first is not None
    assert again == first


def test_a_batch_of_another_run_or_queue_cannot_be_claimed(engine: Engine, model: Model) -> None:
    run_id, other = new_run(engine, model), new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    lease = Lease("me", 30, max_attempts=3)
    for asked in ((other, batch_id, QUEUE), (run_id, batch_id, "other"), (run_id, 999, QUEUE), (999, batch_id, QUEUE)):
        assert leases.claim(engine, *asked, lease) is None
        assert not leases.exists(engine, *asked)
    assert leases.exists(engine, run_id, batch_id, QUEUE)


def test_a_renewed_lease_keeps_a_batch_and_an_expired_one_frees_it(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    assert take(engine, batch_id, "me", lease=0.2)
    leases.renew(engine, ["me"], 30.0)
    time.sleep(0.3)
    assert requeue_expired(engine, QUEUE) == 0
    leases.renew(engine, ["me"], 0.01)
    time.sleep(0.05)
    assert requeue_expired(engine, QUEUE) == 1
    assert [found for _, found in reclaim_due(engine, QUEUE, Priority.NORMAL)] == [batch_id]
    assert take(engine, batch_id, "next") is not None


def test_a_released_batch_is_free_only_after_its_delay(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, published_run(engine, model))
    claimed = take(engine, batch_id)
    assert claimed is not None
    leases.release(engine, claimed, "BundleError: gone", delay_seconds=60.0)
    assert take(engine, batch_id) is None
    assert reclaim_due(engine, QUEUE, Priority.NORMAL) == []
    assert reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=0) == []
    with engine.begin() as connection:
        connection.execute(update(batch).values(not_before=batch.c.not_before - 60.0))
    assert [found for _, found in reclaim_due(engine, QUEUE, Priority.NORMAL)] == [batch_id]
    assert reclaim_due(engine, QUEUE, Priority.NORMAL) == []
    assert take(engine, batch_id) is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_neither_a_claim_nor_a_reaper_waits_for_a_batch_that_another_transaction_has_locked(
    engine: Engine, model: Model
) -> None:
    run_id = published_run(engine, model, images=2, batch_size=1)
    locked, free = batches(engine, run_id)
    with engine.connect() as other:
        other.execute(select(batch).where(batch.c.id == locked).with_for_update())
        assert take(engine, locked) is None
        assert take(engine, free, lease=-1.0) is not None
        assert requeue_expired(engine, QUEUE) == 1
        assert [number for _, number in reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=-60)] == []
        assert [number for _, number in reclaim_due(engine, QUEUE, Priority.NORMAL)] == [free]
        assert mark_dead(engine, QUEUE, max_attempts=-1) == 1
        leases.renew(engine, ["me"], 30.0)
        assert other.execute(text("SELECT 1")).scalar_one() == 1  # the lock was held all the time
    claimed = take(engine, locked)
    assert claimed is not None
    assert claimed.attempts == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_claim_does_not_wait_for_a_reaper_that_marks_its_batch(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, published_run(engine, model))
    with engine.begin() as connection:  # keeps the UPDATE of a reaper open, and the lock with it
        connection.execute(
            text(
                "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER hold AFTER UPDATE OF published_at ON batch FOR EACH STATEMENT EXECUTE FUNCTION hold()")
        )
    reaper = threading.Thread(target=lambda: reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=-60))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        reaper.start()
        waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        wait_until(lambda: connection.execute(waiting).scalar_one(), 60, "the reaper to mark the batch")
        assert take(engine, batch_id) is None
        assert connection.execute(waiting).scalar_one() == 1
    reaper.join()
    assert take(engine, batch_id) is not None

"""Failed attempts and crashes of batches, on SQLite and PostgreSQL."""

import time

from sqlalchemy import Engine, select
from support.ledger import QUEUE, batches, fail, new_run, take

from tagmill.db.schema import batch
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.attempts import FREE_CRASHES
from tagmill.ledger.batches.leases import Claim
from tagmill.ledger.batches.reaper import mark_dead, requeue_expired, requeue_owned
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.models import Model


def test_a_batch_out_of_attempts_is_dead_and_its_images_fail(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    for attempt in range(3):
        fail(engine, batch_id, f"worker-{attempt}")
    assert take(engine, batch_id, "a fourth") is None
    assert mark_dead(engine, QUEUE, max_attempts=3) == 1
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.failures, progress.batches["dead"]) == ("done", {"batch_dead": 3}, 1)


def crash(engine: Engine, batch_id: int, token: str) -> Claim:
    claimed = take(engine, batch_id, f"{token}:1")
    assert claimed is not None
    assert requeue_owned(engine, token) == 1
    return claimed


def test_crashes_cost_no_attempt_and_two_make_a_suspect(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    crashes = [crash(engine, batch_id, "dead") for _ in range(FREE_CRASHES)]
    assert [claimed.suspect for claimed in crashes] == [False, False, *[True] * (FREE_CRASHES - 2)]
    for attempt in range(2):
        fail(engine, batch_id, f"worker-{attempt}")
    last = take(engine, batch_id, "last")
    assert last is not None
    assert last.suspect
    leases.release(engine, last, "BundleError: gone", delay_seconds=0)
    assert take(engine, batch_id, "one too many") is None


def test_a_batch_that_always_crashes_is_dead_in_the_end(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    for _ in range(FREE_CRASHES + 3):
        crash(engine, batch_id, "dead")
    assert take(engine, batch_id, "one too many") is None
    assert mark_dead(engine, QUEUE, max_attempts=3) == 1
    assert run_progress(engine, run_id).failures == {"batch_dead": 3}


def test_an_expired_lease_counts_as_a_crash_whoever_finds_it(engine: Engine, model: Model) -> None:
    first, second = batches(engine, new_run(engine, model, images=2, batch_size=1))
    for batch_id in (first, second):
        assert take(engine, batch_id, "slow", lease=0.01)
    time.sleep(0.05)
    assert take(engine, first, "quick") is not None
    assert requeue_expired(engine, QUEUE) == 1
    with engine.connect() as connection:
        found = connection.execute(select(batch.c.attempts, batch.c.crashes).order_by(batch.c.id)).all()
    assert found == [(2, 1), (1, 1)]

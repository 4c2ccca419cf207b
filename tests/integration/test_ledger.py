"""The ledger on SQLite and PostgreSQL: who may work on a batch, and whose results count."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, update

from producer.manifest import Entry
from producer.progress import run_progress
from producer.results import read_results, run_models
from producer.submit import create_run
from tagmill import ledger
from tagmill.bundle import BundleSpec, Task
from tagmill.database import connect, newest_version, require_schema, schema_version
from tagmill.errors import ConfigurationError, NothingToDo
from tagmill.ledger import BatchResult, Claim, ImageRow, InferenceRow, MaskRow, Outcome
from tagmill.outcome import ErrorCode
from tagmill.preprocess import PreprocessSpec
from tagmill.reaper import bury_dead, reclaim_due, reclaim_lost, requeue_expired
from tagmill.registry import Model, list_models, promote, register, resolve
from tagmill.tables import batch, image, inference, label, mask, metadata, run

SHA = ["a" * 64, "b" * 64, "c" * 64]
QUEUE = "tagmill"


@pytest.fixture
def model(engine: Engine) -> Model:
    return register(engine, BundleSpec("shirts", Task.CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)


def new_run(engine: Engine, model: Model, images: int = 3, batch_size: int = 3) -> int:
    entries = [Entry(f"key-{number}", f"/pictures/{number}.jpg") for number in range(images)]
    return create_run(engine, "test", entries, [model], [Path("/pictures")], batch_size, QUEUE)


def batches(engine: Engine, run_id: int) -> list[int]:
    with engine.connect() as connection:
        return list(
            connection.execute(select(batch.c.id).where(batch.c.run_id == run_id).order_by(batch.c.seq)).scalars()
        )


def take(engine: Engine, batch_id: int, token: str = "me", lease: float = 30.0) -> Claim | None:
    return ledger.claim(engine, batch_id, token, lease, max_attempts=3)


def result_for(claimed: Claim, sha256: str = SHA[0], answer: str = "red") -> BatchResult:
    masks = (MaskRow("red", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9),)
    return BatchResult(
        [Outcome(entry.position, sha256=sha256) for entry in claimed.images],
        [ImageRow(sha256, 8, 8, "JPEG", 100)],
        [InferenceRow(sha256, claimed.models[0], "CPU", ((answer, 0.9), ("other", 0.1)), masks)],
    )


def count(engine: Engine, table: object) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_claim_shows_the_batch_and_a_second_one_gets_nothing(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    claimed = take(engine, batch_id)
    assert claimed is not None
    assert [entry.uri for entry in claimed.images] == ["/pictures/0.jpg", "/pictures/1.jpg", "/pictures/2.jpg"]
    assert (claimed.models, claimed.roots, claimed.attempts) == (("f" * 64,), ("/pictures",), 1)
    assert take(engine, batch_id, "another") is None


def test_of_many_who_claim_at_once_exactly_one_wins(engine: Engine, model: Model) -> None:
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


def test_results_outcomes_and_done_are_written_together(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    claimed = take(engine, batches(engine, run_id)[0])
    assert claimed is not None
    result = result_for(claimed)
    outcomes = [*result.outcomes[:2], Outcome(2, error_code=ErrorCode.TRUNCATED, error_detail="row 3")]
    assert ledger.complete(engine, claimed, replace(result, outcomes=outcomes), "worker")
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.tagged, progress.failed) == ("done", 2, 1)
    assert progress.failures == {"truncated": 1}
    assert progress.batches == {"queued": 0, "running": 0, "done": 1, "dead": 0, "cancelled": 0}
    first, _, third = read_results(engine, run_id, run_models(engine, run_id))
    assert first.labels == {"shirts": [("red", 0.9), ("other", 0.1)]}
    assert first.masks["shirts"][0].box == (0.0, 0.0, 4.0, 4.0)
    assert (third.status, third.error_code, third.error_detail, third.labels) == ("failed", "truncated", "row 3", {})


def test_a_worker_that_lost_its_lease_writes_nothing(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    slow = take(engine, batch_id, "slow", lease=0.01)
    assert slow is not None
    time.sleep(0.05)
    quick = take(engine, batch_id, "quick")
    assert quick is not None
    assert quick.attempts == 2
    assert not ledger.complete(engine, slow, result_for(slow, SHA[1]), "slow")
    assert (count(engine, image), count(engine, inference), count(engine, label), count(engine, mask)) == (0, 0, 0, 0)
    assert ledger.complete(engine, quick, result_for(quick), "quick")
    assert not ledger.complete(engine, quick, result_for(quick), "quick")
    assert (count(engine, inference), count(engine, label), count(engine, mask)) == (1, 2, 1)


def test_the_first_answer_for_the_same_bytes_stays(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    for batch_id, answer in zip(batches(engine, run_id), ("red", "blue"), strict=True):
        claimed = take(engine, batch_id, answer)
        assert claimed is not None
        assert ledger.complete(engine, claimed, result_for(claimed, answer=answer), "worker")
    assert [found.labels["shirts"][0][0] for found in read_results(engine, run_id, [model])] == ["red", "red"]
    assert count(engine, inference) == 1


def test_batches_that_share_images_complete_side_by_side_without_deadlock(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=16, batch_size=1)
    shas = [f"{number:064d}" for number in range(40)]
    failures: list[Exception] = []

    def finish(number: int, batch_id: int) -> None:
        claimed = take(engine, batch_id, f"worker-{number}")
        assert claimed is not None
        mine = shas if number % 2 else shas[::-1]
        rows = [InferenceRow(sha, model.sha256, "CPU", (("red", 1.0),), ()) for sha in mine]
        result = BatchResult([Outcome(number, sha256=shas[0])], [ImageRow(sha, 1, 1, "PNG", 1) for sha in mine], rows)
        try:
            assert ledger.complete(engine, claimed, result, "worker")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=finish, args=entry) for entry in enumerate(batches(engine, run_id))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (count(engine, inference), count(engine, label)) == (40, 40)
    assert run_progress(engine, run_id).state == "done"


def test_a_heartbeat_keeps_a_batch_and_its_end_frees_it(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    assert take(engine, batch_id, "me", lease=0.2)
    ledger.renew(engine, ["me"], 30.0)
    time.sleep(0.3)
    assert requeue_expired(engine, QUEUE, max_attempts=3) == []
    ledger.renew(engine, ["me"], 0.01)
    time.sleep(0.05)
    assert [found for _, found in requeue_expired(engine, QUEUE, max_attempts=3)] == [batch_id]
    assert take(engine, batch_id, "next") is not None


def test_a_released_batch_waits_for_its_time(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    claimed = take(engine, batch_id)
    assert claimed is not None
    ledger.release(engine, claimed, "BundleError: gone", delay_seconds=0.3)
    assert take(engine, batch_id) is None
    assert reclaim_due(engine, QUEUE) == []
    assert reclaim_lost(engine, QUEUE, grace_seconds=0) == []
    time.sleep(0.4)
    assert [found for _, found in reclaim_due(engine, QUEUE)] == [batch_id]
    assert reclaim_due(engine, QUEUE) == []
    assert take(engine, batch_id) is not None


def test_a_lost_message_is_found_once_its_grace_is_over(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=3, batch_size=1)
    assert reclaim_lost(engine, QUEUE, grace_seconds=60) == [(run_id, found) for found in batches(engine, run_id)]
    assert reclaim_lost(engine, QUEUE, grace_seconds=60) == []
    assert len(reclaim_lost(engine, QUEUE, grace_seconds=0)) == 3


def test_a_reaper_leaves_the_runs_of_other_queues_alone(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    assert take(engine, batch_id, lease=0.01)
    time.sleep(0.03)
    assert requeue_expired(engine, "other", max_attempts=3) == []
    assert bury_dead(engine, "other", max_attempts=1) == 0
    assert requeue_expired(engine, QUEUE, max_attempts=3) != []
    assert reclaim_lost(engine, "other", grace_seconds=0) == []


def test_a_batch_out_of_attempts_is_dead_and_its_images_say_so(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    for attempt in range(3):
        assert take(engine, batch_id, f"worker-{attempt}", lease=0.01)
        time.sleep(0.03)
    assert take(engine, batch_id, "a fourth") is None
    assert requeue_expired(engine, QUEUE, max_attempts=3) == []
    assert bury_dead(engine, QUEUE, max_attempts=3) == 1
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.failures, progress.batches["dead"]) == ("done", {"batch_dead": 3}, 1)


def test_a_run_is_written_whole_or_not_at_all(engine: Engine, model: Model) -> None:
    def broken() -> Iterator[Entry]:
        yield from (Entry(f"key-{number}", "/x.jpg") for number in range(200))
        raise ValueError("line 201")

    with pytest.raises(ValueError, match="line 201"):
        create_run(engine, "test", broken(), [model], [], 10, QUEUE)
    with pytest.raises(NothingToDo):
        create_run(engine, "test", [], [model], [], 10, QUEUE)
    assert (count(engine, run), count(engine, batch)) == (0, 0)


def test_positions_and_batches_follow_the_manifest(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=1000, batch_size=7)
    assert len(batches(engine, run_id)) == 143
    found = list(read_results(engine, run_id, [model]))
    assert [row.image_key for row in found] == [f"key-{number}" for number in range(1000)]
    last = take(engine, batches(engine, run_id)[-1])
    assert last is not None
    assert [entry.position for entry in last.images] == [994, 995, 996, 997, 998, 999]


def test_the_migrations_make_the_tables_of_the_code(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    assert schema_version(engine) == newest_version()


def test_an_empty_database_is_refused_with_what_to_do(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(ConfigurationError, match="tagmill db upgrade"):
        require_schema(engine)
    engine.dispose()


def test_the_views_show_the_newest_run_of_each_model(engine: Engine, model: Model) -> None:
    for sha256, answer in ((SHA[0], "red"), (SHA[1], "blue")):
        claimed = take(engine, batches(engine, new_run(engine, model, images=1))[0])
        assert claimed is not None
        assert ledger.complete(engine, claimed, result_for(claimed, sha256, answer), "worker")
    with engine.connect() as connection:
        labels = connection.exec_driver_sql(
            "SELECT image_key, model, label, score FROM catalog_labels WHERE rank = 1"
        ).all()
        masks = connection.exec_driver_sql("SELECT image_key, label, area_share, sha256 FROM catalog_masks").all()
    assert labels == [("key-0", "shirts", "blue", 0.9)]
    assert masks == [("key-0", "red", 0.25, SHA[1])]


def test_a_name_means_the_version_in_production_or_the_newest(engine: Engine, model: Model) -> None:
    spec = BundleSpec("shirts", Task.CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
    second = register(engine, spec, "e" * 64)
    assert (model.version, second.version) == (1, 2)
    assert register(engine, spec, "e" * 64, "another name") == second
    assert resolve(engine, "shirts") == second
    promote(engine, "shirts@1")
    assert resolve(engine, "shirts").title == "shirts@1"
    assert resolve(engine, "shirts@2").title == "shirts@2"
    assert [found.title for found in list_models(engine)] == ["shirts@2", "shirts@1"]


def test_the_clock_is_the_databases(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    with engine.begin() as connection:
        connection.execute(update(batch).values(started_at=None))
    progress = run_progress(engine, run_id)
    assert abs(progress.read_at - time.time()) < 5
    assert (progress.state, progress.seconds, progress.eta_seconds) == ("queued", 0.0, None)

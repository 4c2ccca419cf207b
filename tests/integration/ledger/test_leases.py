"""The ledger on SQLite and PostgreSQL: who may work on a batch, and whose results count."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from support.processes import wait_until
from support.services import libpq_url

from producer.results.read import read_results, run_models
from tagmill.bundles.spec import BundleSpec
from tagmill.db import schema
from tagmill.db.bulk import insert_new, insert_rows
from tagmill.db.connection import connect, is_outage, terminate_silent
from tagmill.db.migrate import newest_version, require_schema, schema_version, upgrade
from tagmill.db.schema import batch, image, inference, label, mask, metadata, reaper, run, run_image
from tagmill.errors import ConfigurationError, NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger import leases
from tagmill.ledger.attempts import FREE_CRASHES
from tagmill.ledger.complete import complete
from tagmill.ledger.leases import Claim, Lease
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
from tagmill.ledger.runs import cancel_run, create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model, list_models, promote, register, resolve
from tagmill.tasks.classify import CLASSIFY

SHA = ["a" * 64, "b" * 64, "c" * 64]
QUEUE = "tagmill"


@pytest.fixture
def model(engine: Engine) -> Model:
    return register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)


def new_run(engine: Engine, model: Model, images: int = 3, batch_size: int = 3) -> int:
    entries = [Entry(f"key-{number}", f"/pictures/{number}.jpg") for number in range(images)]
    return create_run(engine, "test", entries, [model], [Path("/pictures")], batch_size, QUEUE)


def batches(engine: Engine, run_id: int) -> list[int]:
    with engine.connect() as connection:
        return list(
            connection.execute(select(batch.c.id).where(batch.c.run_id == run_id).order_by(batch.c.seq)).scalars()
        )


def take(engine: Engine, batch_id: int, token: str = "me", lease: float = 30.0) -> Claim | None:
    with engine.connect() as connection:
        run_id = connection.execute(select(batch.c.run_id).where(batch.c.id == batch_id)).scalar_one()
    return leases.claim(engine, run_id, batch_id, QUEUE, Lease(token, lease, max_attempts=3))


def result_for(claimed: Claim, sha256: str = SHA[0], answer: str = "red") -> BatchResult:
    masks = (Mask("red", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9),)
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
    assert complete(engine, claimed, replace(result, outcomes=outcomes), "worker")
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
    assert not complete(engine, slow, result_for(slow, SHA[1]), "slow")
    assert (count(engine, image), count(engine, inference), count(engine, label), count(engine, mask)) == (0, 0, 0, 0)
    assert complete(engine, quick, result_for(quick), "quick")
    assert not complete(engine, quick, result_for(quick), "quick")
    assert (count(engine, inference), count(engine, label), count(engine, mask)) == (1, 2, 1)


def test_the_first_answer_for_the_same_bytes_stays(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    for batch_id, answer in zip(batches(engine, run_id), ("red", "blue"), strict=True):
        claimed = take(engine, batch_id, answer)
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed, answer=answer), "worker")
    assert [found.labels["shirts"][0][0] for found in read_results(engine, run_id, [model])] == ["red", "red"]
    assert count(engine, inference) == 1


def test_an_answer_that_another_worker_wrote_first_counts_for_that_worker(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    claims = [take(engine, batch_id, f"worker-{batch_id}") for batch_id in batches(engine, run_id)]
    for claimed in claims:
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed), "worker")
    assert run_progress(engine, run_id).inferences == count(engine, inference) == 1


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
            assert complete(engine, claimed, result, "worker")
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
    leases.renew(engine, ["me"], 30.0)
    time.sleep(0.3)
    assert requeue_expired(engine, QUEUE) == 0
    leases.renew(engine, ["me"], 0.01)
    time.sleep(0.05)
    assert requeue_expired(engine, QUEUE) == 1
    assert [found for _, found in reclaim_due(engine, QUEUE)] == [batch_id]
    assert take(engine, batch_id, "next") is not None


def test_a_strangers_bytes_in_a_reason_do_not_keep_a_batch_from_its_end(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    claimed = take(engine, batch_id)
    assert claimed is not None
    leases.release(engine, claimed, "quotes \0 and \udc80", delay_seconds=0)
    claimed = take(engine, batch_id)
    assert claimed is not None
    bad = [Outcome(entry.position, None, ErrorCode.TRUNCATED, "ends in \0\udc80") for entry in claimed.images]
    assert complete(engine, claimed, BatchResult(bad, [], []), "w")
    with engine.connect() as connection:
        assert set(connection.execute(select(run_image.c.error_detail)).scalars()) == {r"ends in \0\udc80"}


def test_a_released_batch_waits_for_its_time(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    claimed = take(engine, batch_id)
    assert claimed is not None
    leases.release(engine, claimed, "BundleError: gone", delay_seconds=0.3)
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


def test_a_look_takes_its_limit_of_batches_also_where_statistics_are_of_before_a_large_submit(
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


def fail(engine: Engine, batch_id: int, token: str) -> None:
    claimed = take(engine, batch_id, token)
    assert claimed is not None
    leases.release(engine, claimed, "BundleError: gone", delay_seconds=0)


def test_a_batch_out_of_attempts_is_dead_and_its_images_say_so(engine: Engine, model: Model) -> None:
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


def test_a_batch_that_crashes_for_ever_is_dead_in_the_end(engine: Engine, model: Model) -> None:
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


def test_what_a_dead_process_had_in_hand_is_free_at_once(engine: Engine, model: Model) -> None:
    first, second = batches(engine, new_run(engine, model, images=2, batch_size=1))
    assert take(engine, first, "dead:1")
    assert take(engine, second, "alive:1")
    assert requeue_owned(engine, "dead") == 1
    assert [found for _, found in reclaim_due(engine, QUEUE)] == [first]
    assert take(engine, first, "alive:2") is not None


def test_the_same_token_gets_its_batch_again_without_another_attempt(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    first, again = take(engine, batch_id, "me"), take(engine, batch_id, "me")
    assert first is not None
    assert again == first


def test_a_batch_of_another_run_or_queue_is_not_given_out(engine: Engine, model: Model) -> None:
    run_id, other = new_run(engine, model), new_run(engine, model)
    (batch_id,) = batches(engine, run_id)
    lease = Lease("me", 30, max_attempts=3)
    for asked in ((other, batch_id, QUEUE), (run_id, batch_id, "other"), (run_id, 999, QUEUE), (999, batch_id, QUEUE)):
        assert leases.claim(engine, *asked, lease) is None
        assert not leases.exists(engine, *asked)
    assert leases.exists(engine, run_id, batch_id, QUEUE)


def test_one_worker_at_a_time_looks_for_lost_work(engine: Engine) -> None:
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


def test_a_cancelled_run_ends_even_where_its_worker_was_killed(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    assert take(engine, batches(engine, run_id)[0], lease=0.01)
    cancel_run(engine, run_id)
    assert run_progress(engine, run_id).state == "running"
    time.sleep(0.05)
    assert requeue_expired(engine, QUEUE) == 1
    assert run_progress(engine, run_id).state == "cancelled"


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
    from alembic.script import ScriptDirectory

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    heads = ScriptDirectory(Path(schema.__file__).parent / "migrations").get_heads()
    assert [schema_version(engine), newest_version()] == heads * 2


def test_counts_of_runs_from_before_the_counts_are_filled_in(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=5, batch_size=2)
    first, second, _ = batches(engine, run_id)
    claimed = take(engine, first)
    assert claimed is not None
    result = result_for(claimed)
    outcomes = [*result.outcomes[:1], Outcome(1, error_code=ErrorCode.TRUNCATED)]
    assert complete(engine, claimed, replace(result, outcomes=outcomes), "worker")
    for attempt in range(3):
        fail(engine, second, f"worker-{attempt}")
    assert mark_dead(engine, QUEUE, max_attempts=3) == 1
    before = replace(run_progress(engine, run_id), read_at=0.0)
    assert (before.images, before.tagged, before.inferences) == (5, 1, 1)
    assert before.failures == {"batch_dead": 2, "truncated": 1}
    migrate(engine, "0002", "downgrade")
    upgrade(engine)
    assert replace(run_progress(engine, run_id), read_at=0.0) == before


def migrate(engine: Engine, revision: str, direction: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


def test_an_empty_database_is_refused_with_what_to_do(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(ConfigurationError, match="tagmill db upgrade"):
        require_schema(engine)
    engine.dispose()


def test_the_views_show_the_newest_run_of_each_model(engine: Engine, model: Model) -> None:
    for sha256, answer in ((SHA[0], "red"), (SHA[1], "blue")):
        claimed = take(engine, batches(engine, new_run(engine, model, images=1))[0])
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed, sha256, answer), "worker")
    with engine.connect() as connection:
        labels = connection.exec_driver_sql(
            "SELECT image_key, model, label, score FROM catalog_labels WHERE rank = 1"
        ).all()
        masks = connection.exec_driver_sql("SELECT image_key, label, area_share, sha256 FROM catalog_masks").all()
    assert labels == [("key-0", "shirts", "blue", 0.9)]
    assert masks == [("key-0", "red", 0.25, SHA[1])]


def test_a_name_means_the_version_in_production_or_the_newest(engine: Engine, model: Model) -> None:
    spec = BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
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


def test_a_frozen_worker_that_holds_a_lock_does_not_lock_the_others_out(postgres_url: str) -> None:
    frozen, other = connect(postgres_url, patience_seconds=0.3), connect(postgres_url)
    upgrade(other)
    with frozen.connect() as connection:
        assert acquire_reaper_lock(other, QUEUE, 0.0)
        connection.execute(update(reaper).values(next_look=0.0))  # and then not another word
        assert acquire_reaper_lock(other, QUEUE, 60.0)
        with pytest.raises(DBAPIError) as caught:
            connection.execute(select(reaper))
        connection.invalidate()
    assert is_outage(caught.value)
    frozen.dispose()
    other.dispose()


@contextmanager
def worker_that_freezes(url: str) -> Iterator[tuple[Engine, Connection, psycopg.Connection]]:
    """Give another worker's engine, and the connection that is left in silence: as SQLAlchemy and as psycopg see it."""
    frozen, other = (connect(url, patience_seconds=0.3) for _ in range(2))
    upgrade(other)
    assert acquire_reaper_lock(other, QUEUE, 0.0)
    with frozen.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        yield other, connection, raw
        connection.invalidate()
    frozen.dispose()
    other.dispose()


def test_a_worker_that_froze_between_the_statements_of_a_pipeline_is_ended(postgres_url: str) -> None:
    with worker_that_freezes(postgres_url) as (other, _, raw):
        raw.pgconn.enter_pipeline_mode()
        raw.pgconn.send_query_params(b"UPDATE reaper SET next_look = 0", None)
        raw.pgconn.send_flush_request()
        raw.pgconn.flush()  # the statement runs; the Sync that ends it does not come
        wait_until(lambda: locked(other), 10, "the statement to run")
        assert terminate_silent(other, 60) == 0
        time.sleep(1)  # longer than idle_in_transaction_session_timeout, which does not see it
        assert locked(other)
        assert terminate_silent(other, 0.3) == 1
        assert acquire_reaper_lock(other, QUEUE, 60.0)


def test_a_worker_that_froze_in_the_middle_of_a_copy_is_ended(postgres_url: str) -> None:
    with worker_that_freezes(postgres_url) as (other, connection, raw):
        connection.execute(update(reaper).values(next_look=0.0))
        raw.pgconn.exec_(b"COPY file_seen FROM STDIN")  # and no row comes
        time.sleep(1)
        assert locked(other)
        assert terminate_silent(other, 0.3) == 1
        assert acquire_reaper_lock(other, QUEUE, 60.0)


def locked(engine: Engine) -> bool:
    """Return whether somebody holds the reaper's turn."""
    with engine.begin() as connection:
        return not connection.execute(select(reaper).with_for_update(skip_locked=True)).all()


def test_a_connection_that_ends_in_the_middle_of_a_copy_is_an_outage(postgres_url: str) -> None:
    engine = connect(postgres_url)
    upgrade(engine)
    facts = ("sha256", "width", "height", "format", "bytes")

    def rows() -> Iterator[tuple[object, ...]]:
        yield (SHA[0], 1, 1, "PNG", 1)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %'"
        with psycopg.connect(libpq_url(postgres_url)) as other:
            assert other.execute(end).fetchall() == [(True,)]
        yield from ((f"{number:064d}", 1, 1, "PNG", 1) for number in range(100_000))

    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        insert_rows(connection, image, facts, rows())
    assert is_outage(caught.value)
    assert count(engine, image) == 0
    engine.dispose()


def test_a_key_that_is_there_and_a_value_that_is_too_long_are_refused_and_no_outage(engine: Engine) -> None:
    facts = ("sha256", "width", "height", "format", "bytes")
    with pytest.raises(IntegrityError) as known, engine.begin() as connection:
        insert_rows(connection, image, facts, [(SHA[0], 1, 1, "PNG", 1)] * 2)
    assert not is_outage(known.value)
    if engine.dialect.name == "postgresql":
        for write in (insert_rows, insert_new):
            with pytest.raises(DataError, match="too long") as long, engine.begin() as connection:
                write(connection, image, facts, [("x" * 65, 1, 1, "PNG", 1)])
            assert not is_outage(long.value)
    assert count(engine, image) == 0


def test_a_full_database_is_an_outage_and_a_wrong_statement_is_none(sqlite_url: str) -> None:
    engine = connect(sqlite_url)
    upgrade(engine)
    with engine.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        facts = {"width": 1, "height": 1, "format": "PNG", "bytes": 1}
        rows = [{"sha256": f"{number:064d}", **facts} for number in range(999)]
        with pytest.raises(OperationalError, match="full") as full:
            connection.execute(insert(image), rows)
        with pytest.raises(OperationalError, match="no such table") as wrong:
            connection.exec_driver_sql("SELECT 1 FROM nowhere")
    assert (is_outage(full.value), is_outage(wrong.value)) == (True, False)
    engine.dispose()

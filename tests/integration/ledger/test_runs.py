"""Create, publish, cancel, retry and reconcile runs, on SQLite and PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, select, update
from support.ledger import batches, count, new_run, take
from support.processes import waiting
from support.services import ExternalRedis, RedisServer

from producer.output.read.runs import read_results
from producer.publish import publish_run
from producer.runs import reconcile, retry_run
from tagmill.broker.app import make_app
from tagmill.broker.publish import publish
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import batch, run
from tagmill.errors import InputError, NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.batches.reaper import reclaim_lost
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import cancel_run, create_run
from tagmill.ledger.runs.progress import run_progress, unfinished_run
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import Model, register
from tagmill.settings import Settings
from tagmill.tasks.classify import CLASSIFY

SHA = "a" * 64
QUEUE = Settings().queue
LEASE = Lease("me", 30, max_attempts=3)


@pytest.fixture
def app(redis_server: RedisServer | ExternalRedis) -> Celery:
    return make_app(Settings(broker_url=redis_server.url))


@pytest.fixture
def run_id(engine: Engine, app: Celery) -> int:
    """A published run of four batches of two images."""
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)
    entries = [Entry(f"key-{number}", f"/pictures/{number}.jpg") for number in range(8)]
    run_id = create_run(engine, "test", entries, [model], [Path("/pictures")], 2, QUEUE)
    assert publish_run(app, engine, run_id) == 4
    return run_id


def result_of(claimed: Claim, outcomes: list[Outcome]) -> BatchResult:
    """Return a result in which all tagged images have the same bytes."""
    answers = [InferenceRow(SHA, sha256, "CPU", (("red", 0.9),), ()) for sha256 in claimed.models]
    return BatchResult(outcomes, [ImageRow(SHA, 1, 1, "PNG", 1)], answers)


def work(engine: Engine, run_id: int, outcome: ErrorCode | None, batches: int = 99) -> list[Claim]:
    """Claim and complete batches as a worker does, every image with this outcome."""
    with engine.connect() as connection:
        ids = (
            connection.execute(select(batch.c.id).where(batch.c.run_id == run_id).order_by(batch.c.seq)).scalars().all()
        )
    done = []
    for batch_id in ids:
        claimed = leases.claim(engine, run_id, batch_id, QUEUE, LEASE) if len(done) < batches else None
        if claimed is None:
            continue
        outcomes = [Outcome(found.position, None if outcome else SHA, outcome) for found in claimed.images]
        assert complete(engine, claimed, result_of(claimed, outcomes), "me")
        done.append(claimed)
    return done


def test_a_cancelled_run_ends_and_keeps_its_results(engine: Engine, run_id: int) -> None:
    work(engine, run_id, None, batches=1)
    assert cancel_run(engine, run_id) == 3
    assert work(engine, run_id, None) == []
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.tagged, progress.pending) == ("cancelled", 2, 6)
    assert unfinished_run(engine, QUEUE) is None


def test_a_running_batch_is_finished_after_a_cancel(engine: Engine, run_id: int) -> None:
    with engine.connect() as connection:
        first = connection.execute(select(batch.c.id).order_by(batch.c.seq).limit(1)).scalar_one()
    claimed = leases.claim(engine, run_id, first, QUEUE, LEASE)
    assert claimed is not None
    cancel_run(engine, run_id)
    assert run_progress(engine, run_id).state == "running"
    outcomes = [Outcome(found.position, SHA) for found in claimed.images]
    assert complete(engine, claimed, result_of(claimed, outcomes), "me")
    assert run_progress(engine, run_id).state == "cancelled"


def test_retry_takes_what_a_cancelled_run_left(engine: Engine, app: Celery, run_id: int) -> None:
    work(engine, run_id, None, batches=1)
    cancel_run(engine, run_id)
    assert retry_run(app, engine, run_id, [], QUEUE) == 6
    assert [len(claimed.images) for claimed in work(engine, run_id, None)] == [2, 2, 2]
    assert run_progress(engine, run_id).state == "done"


def test_retry_takes_a_batch_that_failed_after_the_cancel(engine: Engine, app: Celery, run_id: int) -> None:
    with engine.connect() as connection:
        first = connection.execute(select(batch.c.id).order_by(batch.c.seq).limit(1)).scalar_one()
    claimed = leases.claim(engine, run_id, first, QUEUE, LEASE)
    assert claimed is not None
    cancel_run(engine, run_id)
    leases.release(engine, claimed, "the model is gone", 0.0)
    assert run_progress(engine, run_id).state == "cancelled"
    assert retry_run(app, engine, run_id, [], QUEUE) == 8
    assert len(work(engine, run_id, None)) == 4
    assert run_progress(engine, run_id).state == "done"


def test_retry_by_code_takes_only_those_images(engine: Engine, app: Celery, run_id: int) -> None:
    work(engine, run_id, ErrorCode.NOT_FOUND, batches=1)
    work(engine, run_id, ErrorCode.TRUNCATED, batches=1)
    work(engine, run_id, None)
    assert retry_run(app, engine, run_id, [ErrorCode.NOT_FOUND], QUEUE) == 2
    (claimed,) = work(engine, run_id, None)
    assert [found.position for found in claimed.images] == [0, 1]
    progress = run_progress(engine, run_id)
    assert (progress.tagged, progress.failures) == (6, {"truncated": 2})


def test_one_of_two_concurrent_retries_takes_the_images(engine: Engine, app: Celery, run_id: int) -> None:
    work(engine, run_id, ErrorCode.NOT_FOUND)
    start = threading.Barrier(2)
    taken: list[int] = []

    def retry() -> None:
        start.wait()
        with suppress(NothingToDo):
            taken.append(retry_run(app, engine, run_id, [], QUEUE))

    threads = [threading.Thread(target=retry) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [8]
    progress = run_progress(engine, run_id)
    assert (progress.images, progress.pending, progress.failures) == (8, 8, {})


def test_retry_of_failed_images_leaves_what_a_cancel_left(engine: Engine, app: Celery, run_id: int) -> None:
    work(engine, run_id, ErrorCode.NOT_FOUND, batches=1)
    work(engine, run_id, ErrorCode.TRUNCATED, batches=1)
    cancel_run(engine, run_id)
    assert retry_run(app, engine, run_id, [ErrorCode.NOT_FOUND], QUEUE) == 2
    work(engine, run_id, None)
    assert retry_run(app, engine, run_id, [], QUEUE, failed_only=True) == 2
    work(engine, run_id, None)
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.tagged, progress.pending) == ("cancelled", 4, 4)
    assert retry_run(app, engine, run_id, [], QUEUE) == 4


def test_retry_without_failed_images_is_refused(engine: Engine, app: Celery, run_id: int) -> None:
    work(engine, run_id, None)
    with pytest.raises(NothingToDo):
        retry_run(app, engine, run_id, [], QUEUE)
    with pytest.raises(InputError, match="no run 99"):
        cancel_run(engine, 99)


def test_reconcile_fills_a_flushed_redis(
    engine: Engine, app: Celery, run_id: int, redis_server: RedisServer | ExternalRedis
) -> None:
    work(engine, run_id, None, batches=1)
    redis_server.flush()
    assert reconcile(app, engine, QUEUE, max_attempts=3) == 3
    assert waiting(app, QUEUE) == 3


def test_a_broker_that_dies_while_publishing_is_a_broker_that_is_down(
    own_redis_server: Callable[..., RedisServer],
) -> None:
    server = own_redis_server()
    app = make_app(Settings(broker_url=server.url))

    def batches() -> Iterator[tuple[int, int]]:
        for number in range(1, 1000):
            if number == 500:
                server.kill()
            yield 1, number

    with pytest.raises(OperationalError):
        publish(app, batches())
    server.start()
    publish(app, [(1, 1)])
    assert waiting(app, QUEUE) == 1


def test_a_publisher_does_not_wait_for_another_one(
    postgres_url: str, redis_server: RedisServer | ExternalRedis
) -> None:
    """Two publishers that mark the same batches in a different order could deadlock."""
    engine = connect(postgres_url)
    upgrade(engine)
    app = make_app(Settings(broker_url=redis_server.url))
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)
    entries = [Entry(f"key-{number}", f"/pictures/{number}.jpg") for number in range(4)]
    run_id = create_run(engine, "test", entries, [model], [Path("/pictures")], 1, QUEUE)
    with engine.begin() as other:
        other.execute(update(batch).where(batch.c.seq == 1).values(published_at=1.0))
        assert publish_run(app, engine, run_id) == 3
        assert waiting(app, QUEUE) == 3
        assert [number for _, number in reclaim_lost(engine, QUEUE, Priority.NORMAL, grace_seconds=-1)] == [1, 3, 4]
    engine.dispose()


def test_a_run_is_written_completely_or_not_at_all(engine: Engine, model: Model) -> None:
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

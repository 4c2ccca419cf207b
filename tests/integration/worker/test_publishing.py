"""Each batch of a run is published once, by its producer or, if that one ends early, by reapers: on a real Redis."""

import base64
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import pytest
import redis as redis_client
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, select, text, update
from support.installation import Site
from support.ledger import QUEUE, batches, fail, new_model, new_run
from support.processes import environment, tagmill, wait_until
from support.services import ExternalRedis, RedisServer

from producer import publish as publishing
from producer.publish import publish_run
from producer.runs import remove_cancelled, retry_run
from tagmill.broker import remove
from tagmill.broker.app import make_app
from tagmill.broker.publish import publish, shown_run
from tagmill.db.connection import connect
from tagmill.db.schema import batch, run
from tagmill.ledger.batches.reaper import abandoned_runs
from tagmill.ledger.runs import create
from tagmill.ledger.runs import publishing as marking
from tagmill.ledger.runs.create import cancel_run, requeue_images
from tagmill.ledger.runs.publishing import PUBLISH_CHUNK, PUBLISH_SECONDS
from tagmill.priority import STEPS
from tagmill.registry.models import Model
from tagmill.settings import Settings
from worker.connections.availability import Services
from worker.reaping import reap

BATCHES = 5 * PUBLISH_CHUNK
Redis = RedisServer | ExternalRedis


@pytest.fixture
def app(redis_server: Redis) -> Celery:
    return make_app(Settings(broker_url=redis_server.url))


@pytest.fixture
def model(engine: Engine) -> Model:
    return new_model(engine)


def take_messages(app: Celery) -> list[int]:
    """Empty the queue, as workers do that are faster than the producer; return the ids of the batches."""
    found = []
    with app.connection_for_read() as connection:
        client = connection.channel().client
        for name in (QUEUE, *(f"{QUEUE}:{step}" for step in STEPS)):
            while messages := client.rpop(name, 1000):
                for message in messages:
                    (words,), _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
                    found.append(words["batch"])
    return found


def one_pass(app: Celery, engine: Engine, redis: Redis, grace_seconds: float = 10.0) -> int:
    """Let the reaper of a worker look once; return how many batches it published."""
    settings = Settings(broker_url=redis.url, reap_seconds=1e-6, queued_grace_seconds=grace_seconds)
    return reap(app, engine, settings, Services())


def let_time_pass(engine: Engine, seconds: float) -> None:
    """Move the times of runs and batches into the past."""
    with engine.begin() as connection:
        connection.execute(update(run).values(publish_until=run.c.publish_until - seconds))
        connection.execute(update(batch).values(published_at=batch.c.published_at - seconds))


def finish(engine: Engine, numbers: Sequence[int]) -> None:
    """Mark batches as done, whose messages workers took."""
    with engine.begin() as connection:
        for start in range(0, len(numbers), 500):
            done = batch.c.id.in_(numbers[start : start + 500])
            connection.execute(update(batch).where(done).values(status="done"))


def test_a_reaper_that_looks_all_the_time_publishes_nothing_of_a_run_that_is_being_published(
    app: Celery, engine: Engine, model: Model, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (create, marking):  # a busy machine takes longer for a chunk than a producer may
        monkeypatch.setattr(module, "PUBLISH_SECONDS", 3600.0)
    run_id = new_run(engine, model, images=BATCHES, batch_size=1)
    ended = threading.Event()
    by_reapers: list[int] = []
    taken: list[int] = []

    def look() -> None:
        while not ended.is_set():
            by_reapers.append(one_pass(app, engine, redis_server, grace_seconds=3600.0))
            taken.extend(take_messages(app))  # then the queue is empty, as if it had lost what waits

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(by_reapers) > 5, 60, "some looks")
    before = len(by_reapers)
    sent = publish_run(app, engine, run_id)
    during = len(by_reapers) - before
    ended.set()
    for thread in threads:
        thread.join()
    taken += take_messages(app)
    assert sum(by_reapers) == 0
    assert during
    assert sent == BATCHES
    assert sorted(taken) == batches(engine, run_id)


def test_between_two_chunks_a_reaper_publishes_what_lost_its_worker_and_nothing_of_the_new_run(
    app: Celery, engine: Engine, model: Model, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = new_run(engine, model, images=1, batch_size=1)
    publish_run(app, engine, old)
    assert take_messages(app) == batches(engine, old)
    run_id = new_run(engine, model, images=2 * PUBLISH_CHUNK + 5, batch_size=1)
    taken: list[list[int]] = []

    def publish_and_reap(app: Celery, found: Sequence[tuple[int, int]], step: int, engine: Engine) -> None:
        publish(app, found, engine=engine)
        taken.append(take_messages(app))
        fail(engine, *batches(engine, old), token=f"worker-{len(taken)}")
        assert one_pass(app, engine, redis_server) == 1
        assert take_messages(app) == batches(engine, old)

    monkeypatch.setattr(publishing, "publish", publish_and_reap)
    assert publish_run(app, engine, run_id) == 2 * PUBLISH_CHUNK + 5
    assert [len(chunk) for chunk in taken] == [PUBLISH_CHUNK, PUBLISH_CHUNK, 5]
    assert [number for chunk in taken for number in chunk] == batches(engine, run_id)
    assert one_pass(app, engine, redis_server) == 0


#: a producer that gets a signal when it has sent half of its third chunk
PRODUCER = f"""
import os, sys
from producer import publish as publishing
from tagmill.broker.app import make_app
from tagmill.db.connection import connect
from tagmill.settings import load_settings

chunks, publish = [], publishing.publish

def publish_until_the_signal(app, batches, step, engine):
    chunks.append(batches)
    if len(chunks) == 3:
        publish(app, batches[:{PUBLISH_CHUNK // 2}])
        os.kill(os.getpid(), int(sys.argv[2]))
    publish(app, batches)

publishing.publish = publish_until_the_signal
settings = load_settings()
publishing.publish_run(make_app(settings), connect(settings.database_url), int(sys.argv[1]))
"""


def interrupt_producer(engine: Engine, redis: Redis, run_id: int, how: signal.Signals) -> None:
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", PRODUCER, str(run_id), str(int(how))]
    env = environment(database_url=url, broker_url=redis.url)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -how, done.stderr


def unpublished(engine: Engine) -> int:
    """Return the number of batches that were never published."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM batch WHERE published_at IS NULL")).scalar_one())


def check_that_reapers_publish_the_rest(
    app: Celery, engine: Engine, redis: Redis, run_id: int, taken: list[int]
) -> None:
    """Let reapers look while time passes. What was marked as published and not sent is lost until its grace ends."""
    finish(engine, taken)
    for _ in range(20):
        one_pass(app, engine, redis)
        found = take_messages(app)
        finish(engine, found)
        taken += found
        if len(taken) >= BATCHES:
            break
        let_time_pass(engine, PUBLISH_SECONDS + 1)
    assert sorted(taken) == batches(engine, run_id)
    assert one_pass(app, engine, redis) == 0
    assert abandoned_runs(engine, QUEUE) == []


def test_reapers_publish_the_rest_of_a_killed_producer_once_it_is_late(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = new_run(engine, model, images=BATCHES, batch_size=1)
    interrupt_producer(engine, redis_server, run_id, signal.SIGKILL)
    taken = take_messages(app)
    assert len(taken) == 2.5 * PUBLISH_CHUNK
    finish(engine, taken)
    let_time_pass(engine, PUBLISH_SECONDS - 10)
    assert one_pass(app, engine, redis_server, grace_seconds=60) == 0
    assert unpublished(engine) == 2 * PUBLISH_CHUNK
    let_time_pass(engine, 11)
    assert abandoned_runs(engine, QUEUE) == [run_id]
    assert one_pass(app, engine, redis_server, grace_seconds=60) == PUBLISH_CHUNK
    taken += take_messages(app)
    check_that_reapers_publish_the_rest(app, engine, redis_server, run_id, taken)


def test_after_ctrl_c_reapers_publish_the_rest_at_once(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = new_run(engine, model, images=BATCHES, batch_size=1)
    interrupt_producer(engine, redis_server, run_id, signal.SIGINT)
    taken = take_messages(app)
    assert len(taken) == 2.5 * PUBLISH_CHUNK
    finish(engine, taken)
    assert [one_pass(app, engine, redis_server) for _ in range(3)] == [PUBLISH_CHUNK, PUBLISH_CHUNK, 0]
    assert unpublished(engine) == 0
    taken += take_messages(app)
    check_that_reapers_publish_the_rest(app, engine, redis_server, run_id, taken)


def test_a_broker_that_goes_down_while_a_run_is_published_leaves_the_rest_to_the_reapers(
    engine: Engine, model: Model, own_redis_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = own_redis_server(appendonly=True)
    app = make_app(Settings(broker_url=redis.url))
    run_id = new_run(engine, model, images=PUBLISH_CHUNK + 5, batch_size=1)

    def publish_and_kill(app: Celery, found: Sequence[tuple[int, int]], step: int, engine: Engine) -> None:
        publish(app, found)
        redis.kill()

    monkeypatch.setattr(publishing, "publish", publish_and_kill)
    with pytest.raises(OperationalError):
        publish_run(app, engine, run_id)
    redis.start()
    assert abandoned_runs(engine, QUEUE) == [run_id]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_batch_that_was_locked_while_its_run_was_published_is_left_to_the_reapers(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = new_run(engine, model, images=4, batch_size=1)
    with engine.connect() as other:
        other.execute(select(batch).where(batch.c.seq == 1).with_for_update())
        assert publish_run(app, engine, run_id) == 3
        other.rollback()
    assert len(take_messages(app)) == 3
    let_time_pass(engine, PUBLISH_SECONDS + 1)
    assert one_pass(app, engine, redis_server, grace_seconds=3600) == 1
    assert take_messages(app) == [batches(engine, run_id)[1]]
    assert one_pass(app, engine, redis_server, grace_seconds=3600) == 0


def test_a_run_that_is_cancelled_while_it_is_published_goes_on_with_a_retry(
    app: Celery, engine: Engine, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = new_run(engine, model, images=2 * PUBLISH_CHUNK, batch_size=1)
    chunks: list[Sequence[tuple[int, int]]] = []

    def publish_and_cancel(app: Celery, found: Sequence[tuple[int, int]], step: int, engine: Engine) -> None:
        publish(app, found)
        chunks.append(found)
        cancel_run(engine, run_id)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", publish_and_cancel)
        assert publish_run(app, engine, run_id) == PUBLISH_CHUNK == len(take_messages(app))
    assert abandoned_runs(engine, QUEUE) == []
    assert retry_run(app, engine, run_id, [], QUEUE) == 2 * PUBLISH_CHUNK
    assert take_messages(app) == batches(engine, run_id)[2 * PUBLISH_CHUNK :]


def test_a_cancelled_run_leaves_the_queue_and_other_runs_stay_in_their_order(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    runs = [new_run(engine, model, images=number, batch_size=1) for number in (700, 1300, 900, 11)]
    for run_id in runs:
        publish_run(app, engine, run_id)
    fail(engine, batches(engine, runs[1])[0], token="worker")
    let_time_pass(engine, 3600)
    assert one_pass(app, engine, redis_server, grace_seconds=86400) == 1  # it waits with the other priority
    cancel_run(engine, runs[1])
    assert remove_cancelled(app, engine, runs[1]) == 1300  # of 1301 messages: two are of one batch
    left = take_messages(app)
    others = [number for run_id in (runs[0], *runs[2:]) for number in batches(engine, run_id)]
    assert sorted(set(left) - {batches(engine, runs[1])[-1]}) == sorted(others)
    assert len(left) == len(others) + 1
    assert remove_cancelled(app, engine, runs[1]) == 0


def test_an_interrupted_cancellation_loses_no_message_of_others(
    app: Celery, engine: Engine, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (new_run(engine, model, images=20, batch_size=1) for _ in range(2))
    publish_run(app, engine, first)
    publish_run(app, engine, second)
    cancel_run(engine, second)
    monkeypatch.setattr(remove, "STEP", 7)
    asked = iter([False, False, False, True])

    def shown(run_id: int) -> str:
        if next(asked, False):
            raise KeyboardInterrupt
        return shown_run(run_id)

    monkeypatch.setattr(remove, "shown_run", shown)
    with pytest.raises(KeyboardInterrupt):
        remove_cancelled(app, engine, second)
    monkeypatch.undo()
    assert remove_cancelled(app, engine, second) == 19
    assert sorted(take_messages(app)) == batches(engine, first)


def test_a_message_shows_run_batch_images_and_models(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = new_run(engine, model, images=5, batch_size=3)
    publish_run(app, engine, run_id)
    with redis_client.Redis.from_url(redis_server.url) as client:
        shown = [json.loads(raw)["headers"]["argsrepr"] for raw in client.lrange(f"{QUEUE}:6", 0, -1)]
    one, two = batches(engine, run_id)
    of_model = f"model={model.name}@{model.version}"
    assert shown == [
        f"run={run_id}, batch={two}, images=2, {of_model}",
        f"run={run_id}, batch={one}, images=3, {of_model}",
    ]


def in_trigger(engine: Engine) -> bool:
    """Return whether a session sleeps in SQL."""
    sleeping = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    with engine.connect() as connection:
        return connection.execute(sleeping).scalar_one() > 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_cancel_or_a_retry_and_a_producer_that_marks_a_chunk_do_not_deadlock(
    app: Celery, engine: Engine, model: Model, command: str
) -> None:
    run_id = new_run(engine, model, images=4, batch_size=1)
    if command == "retry":
        cancel_run(engine, run_id)
        requeue_images(engine, run_id, [], QUEUE)
        with engine.begin() as connection:  # what was queued is moved to the queue of the retry
            connection.execute(update(batch).values(queue="other"))
            connection.execute(update(batch).where(batch.c.seq < 4).values(status="cancelled", images=1))
    with engine.begin() as connection:  # holds the locks of a chunk for a while
        connection.execute(
            text(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER slow AFTER UPDATE OF published_at ON batch FOR EACH ROW EXECUTE FUNCTION slow()")
        )
    failures: list[Exception] = []

    def publish_all() -> None:
        try:
            publish_run(app, engine, run_id)
        except Exception as error:
            failures.append(error)

    producer = threading.Thread(target=publish_all)
    producer.start()
    wait_until(lambda: in_trigger(engine), 60, "the producer to mark a chunk")
    try:
        if command == "cancel":
            cancel_run(engine, run_id)
        else:
            assert requeue_images(engine, run_id, [], QUEUE) == 4
    finally:
        producer.join()
    assert failures == []


@pytest.mark.parametrize("site", ["sqlite_url", "postgres_url"], indirect=True)
def test_submit_prints_the_number_of_messages_that_it_sent(site: Site, app: Celery, redis_server: Redis) -> None:
    manifest = site.folder / "catalog.csv"
    images = PUBLISH_CHUNK + 234
    manifest.write_text("image_key,uri\n" + "".join(f"{at},http://shop.example/{at}.jpg\n" for at in range(images)))
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    ended = threading.Event()
    taken: list[int] = []

    def look() -> None:
        while not ended.is_set():
            assert one_pass(app, engine, redis_server) == 0
            taken.extend(take_messages(app))

    thread = threading.Thread(target=look)
    thread.start()
    printed = tagmill("submit", manifest, "--model", "colors", "--batch-size", 1, env=site.env).stdout
    ended.set()
    thread.join()
    taken += take_messages(app)
    assert printed.startswith(f"run 1: {images} images in {images} batches, ")
    assert sorted(taken) == batches(engine, 1)
    engine.dispose()

"""Messages that Redis lost are republished by the first worker or producer that checks, even if Redis holds others."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, update
from support.processes import waiting
from support.services import RedisServer

from producer.publish import publish_run
from tagmill.broker import message_loss
from tagmill.broker.app import make_app
from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, publish
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import epoch_now
from tagmill.db.schema import batch
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.batches.reaper import requeue_owned
from tagmill.ledger.runs.create import create_run
from tagmill.priority import Priority
from tagmill.records import Entry
from tagmill.registry.models import Model, register
from tagmill.settings import Settings
from tagmill.tasks.classify import CLASSIFY
from worker.connections.availability import Services
from worker.reaping import reap

QUEUE = "tagmill"
MARKER = "tagmill:seen"


@pytest.fixture
def redis(own_redis_server: Callable[..., RedisServer]) -> RedisServer:
    return own_redis_server(appendonly=True)


@pytest.fixture
def app(redis: RedisServer) -> Celery:
    return make_app(Settings(broker_url=redis.url))


@pytest.fixture
def model(engine: Engine) -> Model:
    return register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)


def recover(app: Celery, engine: Engine) -> int:
    with open_channel(app) as channel:
        return recover_messages(app, channel, engine, QUEUE)


def new_run(engine: Engine, model: Model, batches: int) -> int:
    entries = [Entry(f"key-{number}", f"/images/{number}.jpg") for number in range(batches)]
    return create_run(engine, "test", entries, [model], [Path("/images")], 1, QUEUE)


def published_run(app: Celery, engine: Engine, model: Model, batches: int) -> int:
    run = new_run(engine, model, batches)
    publish_run(app, engine, run)
    return run


def claim_and_die(engine: Engine, run: int, number: int) -> None:
    assert leases.claim(engine, run, number, QUEUE, Lease("dead:1", 30, max_attempts=3))
    assert requeue_owned(engine, "dead") == 1


def set_published_long_ago(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(update(batch).values(published_at=epoch_now() - 3600))


def let_time_pass(engine: Engine, seconds: float) -> None:
    with engine.begin() as connection:
        connection.execute(update(batch).values(published_at=batch.c.published_at - seconds))


def test_a_first_run_is_published_once(app: Celery, engine: Engine, model: Model) -> None:
    run = new_run(engine, model, 3)
    assert publish_run(app, engine, run) == 3
    assert recover(app, engine) == 0
    assert waiting(app, QUEUE) == 3


def test_an_emptied_redis_is_refilled_although_it_holds_new_messages(
    app: Celery, engine: Engine, model: Model, redis: RedisServer
) -> None:
    run = published_run(app, engine, model, 3)
    set_published_long_ago(engine)
    redis.flush()
    publish(app, [(run, 1)])
    assert recover(app, engine) == 3
    assert recover(app, engine) == 0
    assert waiting(app, QUEUE) == 4


def test_batches_that_were_in_progress_are_republished_before_the_others_of_their_priority(
    app: Celery, engine: Engine, model: Model, redis: RedisServer
) -> None:
    run = published_run(app, engine, model, 3)
    claim_and_die(engine, run, 2)
    set_published_long_ago(engine)
    redis.flush()
    assert recover(app, engine) == 3
    with app.connection_for_read() as connection:
        client = connection.channel().client
        assert client.llen(f"{QUEUE}:{Priority.NORMAL.retry_step}") == 1
        assert client.llen(f"{QUEUE}:{int(Priority.NORMAL)}") == 2
    assert [waiting(app, QUEUE, priority) for priority in (Priority.NORMAL.retry_step, Priority.NORMAL)] == [1, 2]


def test_batches_in_progress_or_done_are_not_republished(
    app: Celery, engine: Engine, model: Model, redis: RedisServer
) -> None:
    run = published_run(app, engine, model, 2)
    assert leases.claim(engine, run, 1, QUEUE, Lease("alive:1", 30, max_attempts=3))
    redis.flush()
    assert recover(app, engine) == 1


def test_the_next_submit_refills_an_emptied_redis_too(
    app: Celery, engine: Engine, model: Model, redis: RedisServer
) -> None:
    published_run(app, engine, model, 3)
    redis.flush()
    assert publish_run(app, engine, new_run(engine, model, 2)) == 2
    assert waiting(app, QUEUE) == 5


def test_after_a_restart_only_recently_published_batches_are_republished(
    app: Celery, engine: Engine, model: Model, redis: RedisServer
) -> None:
    published_run(app, engine, model, 3)
    set_published_long_ago(engine)
    published_run(app, engine, model, 2)
    assert recover(app, engine) == 0
    redis.kill()
    redis.start()
    assert recover(app, engine) == 2
    assert recover(app, engine) == 0


def test_a_recovery_whose_process_died_is_completed_by_the_next(
    app: Celery, engine: Engine, model: Model, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_run(app, engine, model, 3)
    redis.flush()
    with monkeypatch.context() as patch:
        patch.setattr(message_loss, "reclaim_published_between", _die)
        with pytest.raises(KeyboardInterrupt):
            recover(app, engine)
    assert recover(app, engine) == 3
    assert recover(app, engine) == 0


def test_an_invalid_broker_marker_counts_as_none(app: Celery, engine: Engine, model: Model, redis: RedisServer) -> None:
    published_run(app, engine, model, 3)
    with app.connection_for_read() as connection:
        for strange in (b"", b"{", b"[]", b"7", b'{"process": 1}', b"\xff"):
            connection.channel().client.set(MARKER, strange)
            assert recover(app, engine) == 3


def test_a_message_lost_before_its_claim_is_republished_while_others_wait(
    app: Celery, engine: Engine, model: Model, redis: RedisServer
) -> None:
    settings = Settings(broker_url=redis.url, queued_grace_seconds=60, reap_seconds=0.01)
    run = published_run(app, engine, model, 3)
    claim_and_die(engine, run, 2)
    assert reap(app, engine, settings, Services()) == 1
    with app.connection_for_read() as connection:
        assert connection.channel().client.rpop(f"{QUEUE}:{Priority.NORMAL.retry_step}")
    time.sleep(0.01)
    assert reap(app, engine, settings, Services()) == 0
    let_time_pass(engine, 19)
    assert reap(app, engine, settings, Services()) == 1
    let_time_pass(engine, 19)
    assert reap(app, engine, settings, Services()) == 0  # it waits in the queue


def test_recovery_raises_if_redis_is_down(app: Celery, engine: Engine, redis: RedisServer) -> None:
    redis.kill()
    with pytest.raises(OperationalError):
        recover(app, engine)


def test_a_broker_in_memory_has_nothing_to_recover(engine: Engine) -> None:
    assert recover(make_app(Settings(broker_url="memory://localhost/")), engine) == 0


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt

"""Urgent runs overtake others, whatever the queue holds: on a real Redis."""

from typing import Any

import pytest
import redis as redis_client
from celery import Celery
from sqlalchemy import Engine, update
from support.ledger import QUEUE, batches, fail, new_model, new_run, take
from support.services import ExternalRedis, RedisServer

from producer.publish import publish_run
from producer.runs import change_priority, pause, reconcile, resume, retry_run
from tagmill.broker.app import make_app
from tagmill.broker.message import BatchMessage
from tagmill.broker.publish import publish
from tagmill.db.schema import batch
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.runs.control import is_paused, set_priority
from tagmill.ledger.runs.create import LOCAL_QUEUE_PREFIX, cancel_run, create_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.ledger.runs.publishing import take_unpublished
from tagmill.priority import STEPS, Priority
from tagmill.records import Entry
from tagmill.registry.models import Model
from tagmill.settings import Settings
from worker.connections.availability import Services
from worker.reaping import reap

Redis = RedisServer | ExternalRedis
URGENT, NORMAL, BACKFILL = Priority


@pytest.fixture
def app(redis_server: Redis) -> Celery:
    return make_app(Settings(broker_url=redis_server.url))


@pytest.fixture
def model(engine: Engine) -> Model:
    return new_model(engine)


def run_of(engine: Engine, model: Model, priority: Priority, images: int = 3, queue: str = QUEUE) -> int:
    """Create a run with a batch for each image."""
    entries = [Entry(f"{priority.word}-{number}", f"/pictures/{number}.jpg") for number in range(images)]
    return create_run(engine, "test", entries, [model], [], 1, queue, priority=priority)


def queued(redis: Redis) -> dict[int, int]:
    """Return step -> number of messages, without empty lists."""
    with redis_client.Redis.from_url(redis.url) as client:
        lengths = {step: client.llen(f"{QUEUE}:{step}" if step else QUEUE) for step in STEPS}
    return {step: int(length) for step, length in lengths.items() if length}


def taken(app: Celery, most: int) -> list[int]:
    """Return the batches of the next messages, in the order in which a worker gets them."""
    found: list[int] = []

    def received(body: Any, message: Any) -> None:
        found.append(BatchMessage.from_json(body[0][0]).batch)
        message.ack()

    with app.connection_for_read() as connection:
        consumer = connection.Consumer(app.conf.task_queues, callbacks=[received], accept=["json"])
        consumer.qos(prefetch_count=1)
        with consumer:
            while len(found) < most:
                connection.drain_events(timeout=60)
    return found


def let_time_pass(engine: Engine, seconds: float) -> None:
    with engine.begin() as connection:
        connection.execute(update(batch).values(published_at=batch.c.published_at - seconds))


def reap_once(app: Celery, engine: Engine, redis: Redis) -> int:
    settings = Settings(broker_url=redis.url, reap_seconds=1e-6)
    return reap(app, engine, settings, Services())


def test_workers_take_urgent_batches_first_and_of_each_priority_those_that_were_in_work_before(
    app: Celery, redis_server: Redis
) -> None:
    published = [9, 8, 6, 5, 3, 0]
    for step in published:
        publish(app, [(1, 100 + step)], step)
    publish(app, [(1, 200)], BACKFILL)
    assert taken(app, 3) == [100, 103, 105]
    publish(app, [(1, 300)], URGENT)  # while others wait
    assert taken(app, 5) == [300, 106, 108, 109, 200]


def test_what_lost_its_worker_or_its_message_is_published_at_the_priority_of_its_run(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    runs = {priority: run_of(engine, model, priority) for priority in reversed(Priority)}
    for run_id in runs.values():
        publish_run(app, engine, run_id)
    assert queued(redis_server) == {3: 3, 6: 3, 9: 3}
    for run_id in runs.values():
        fail(engine, batches(engine, run_id)[0], token=f"worker-{run_id}")
    assert reap_once(app, engine, redis_server) == 3
    assert queued(redis_server) == {0: 1, 3: 3, 5: 1, 6: 3, 8: 1, 9: 3}
    redis_server.flush()
    assert reap_once(app, engine, redis_server) == 9  # an emptied Redis
    assert queued(redis_server) == {0: 1, 3: 2, 5: 1, 6: 2, 8: 1, 9: 2}
    redis_server.flush()
    reap_once(app, engine, redis_server)
    redis_server.flush()
    assert reconcile(app, engine, QUEUE, max_attempts=3) == 9
    assert queued(redis_server) == {3: 3, 6: 3, 9: 3}


def test_lost_messages_of_an_urgent_run_are_missed_while_a_backfill_waits(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    backfill, urgent = run_of(engine, model, BACKFILL, images=5), run_of(engine, model, URGENT)
    publish_run(app, engine, backfill)
    reap_once(app, engine, redis_server)  # it notes the Redis that holds the queue
    while take_unpublished(engine, urgent):
        pass  # its messages are lost
    let_time_pass(engine, 5)
    assert reap_once(app, engine, redis_server) == 0  # not late yet
    let_time_pass(engine, 6)
    assert reap_once(app, engine, redis_server) == 3
    assert queued(redis_server) == {3: 3, 9: 5}


def test_a_new_priority_moves_the_waiting_batches_of_a_run_and_no_others(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    other, run_id = run_of(engine, model, BACKFILL, images=4), run_of(engine, model, BACKFILL, images=4)
    for found in (other, run_id):
        publish_run(app, engine, found)
    first, second, *_ = batches(engine, run_id)
    assert take(engine, first) is not None
    fail(engine, second, token="worker-2")
    reap_once(app, engine, redis_server)
    assert change_priority(app, engine, run_id, URGENT) == 2  # the reaper publishes the one that failed
    assert change_priority(app, engine, run_id, URGENT) is None
    assert run_progress(engine, run_id).to_json()["priority"] == "urgent"
    assert reap_once(app, engine, redis_server) == 1
    assert queued(redis_server) == {0: 1, 3: 2, 9: 4}
    assert change_priority(app, engine, run_id, BACKFILL) == 2
    assert queued(redis_server) == {9: 6}
    assert reap_once(app, engine, redis_server) == 1
    assert taken(app, 1) == [second]
    assert sorted(taken(app, 6)) == sorted([*batches(engine, other), *batches(engine, run_id)[2:]])


def test_a_batch_in_work_has_the_new_priority_of_its_run_when_it_comes_back(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = run_of(engine, model, NORMAL, images=1)
    publish_run(app, engine, run_id)
    taken(app, 1)
    claimed = take(engine, batches(engine, run_id)[0], lease=-1.0)
    assert claimed is not None
    set_priority(engine, run_id, URGENT)
    assert reap_once(app, engine, redis_server) == 1
    assert queued(redis_server) == {0: 1}


def test_a_paused_run_leaves_the_queue_and_goes_on_when_it_is_resumed(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id, other = run_of(engine, model, NORMAL, images=4), new_run(engine, model, images=2, batch_size=1)
    for found in (run_id, other):
        publish_run(app, engine, found)
    first, second, third, fourth = batches(engine, run_id)
    assert taken(app, 2) == [first, second]
    assert take(engine, first, "in work") is not None
    fail(engine, second, token="failed")
    assert pause(app, engine, run_id) == 2
    assert pause(app, engine, run_id) is None
    assert queued(redis_server) == {6: 2}
    let_time_pass(engine, 3600)
    redis_server.flush()
    reap_once(app, engine, redis_server)
    assert sorted(taken(app, 2)) == batches(engine, other)  # nothing of the paused run
    assert reconcile(app, engine, QUEUE, max_attempts=3) == 2
    assert [take(engine, number) for number in (second, third, fourth)] == [None] * 3
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.ended, progress.batches["running"]) == ("paused", False, 1)
    taken(app, 2)
    assert resume(app, engine, run_id) == 2
    assert resume(app, engine, run_id) is None
    assert queued(redis_server) == {6: 2}
    reap_once(app, engine, redis_server)
    assert taken(app, 3) == [second, third, fourth]
    assert run_progress(engine, run_id).state == "running"


def test_a_run_that_is_paused_while_it_is_published_publishes_the_rest_when_it_is_resumed(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = run_of(engine, model, NORMAL)
    pause(app, engine, run_id)
    assert publish_run(app, engine, run_id) == 0
    assert reap_once(app, engine, redis_server) == 0
    assert resume(app, engine, run_id) == 3


def test_cancel_and_retry_of_a_paused_run(app: Celery, engine: Engine, model: Model, redis_server: Redis) -> None:
    run_id = run_of(engine, model, NORMAL)
    publish_run(app, engine, run_id)
    pause(app, engine, run_id)
    with pytest.raises(NothingToDo, match="no image to take again"):
        retry_run(app, engine, run_id, [], QUEUE)
    assert is_paused(engine, run_id)
    assert cancel_run(engine, run_id) == 3
    assert run_progress(engine, run_id).state == "cancelled"
    for control in (pause, resume):
        with pytest.raises(NothingToDo, match="was cancelled"):
            control(app, engine, run_id)
    assert retry_run(app, engine, run_id, [], QUEUE) == 3
    assert pause(app, engine, run_id) == 3
    assert queued(redis_server) == {}


def test_runs_that_are_done_unknown_or_of_tagmill_tag_are_not_controlled(
    app: Celery, engine: Engine, model: Model
) -> None:
    done = run_of(engine, model, NORMAL)
    with engine.begin() as connection:
        connection.execute(update(batch).values(status="done", finished_at=1.0))
    local = run_of(engine, model, NORMAL, queue=f"{LOCAL_QUEUE_PREFIX}1")
    for call in (lambda run: pause(app, engine, run), lambda run: change_priority(app, engine, run, URGENT)):
        with pytest.raises(NothingToDo, match=f"run {done} is done"):
            call(done)
        with pytest.raises(InputError, match="no run 99"):
            call(99)
        with pytest.raises(InputError, match="is of `tagmill tag`"):
            call(local)

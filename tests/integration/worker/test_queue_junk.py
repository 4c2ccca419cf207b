"""Nothing that others put on Redis stops a worker: it is moved away, counted, and the work goes on."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, wait_until
from support.services import ExternalRedis, RedisServer

from tagmill.broker.app import make_app
from tagmill.broker.message import TAG_BATCH
from tagmill.broker.publish import publish
from tagmill.settings import Settings
from worker.connections.redis_channel import MOST_DEAD
from worker.connections.tally import TALLY_SECONDS

#: commands that would stop, slow down or change a worker
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("shutdown", {}),
    ("rate_limit", {"task_name": TAG_BATCH, "rate_limit": "1/h"}),
    ("time_limit", {"task_name": TAG_BATCH, "hard": 0.001, "soft": 0.001}),
    ("cancel_consumer", {"queue": "tagmill"}),
    ("add_consumer", {"queue": "other"}),
    ("pool_restart", {}),
    ("pool_shrink", {"n": 3}),
    ("pool_grow", {"n": 1000}),
    ("autoscale", {"max": 1, "min": 0}),
    ("disable_events", {}),
    ("election", {"id": 1, "topic": "x"}),
    ("terminate", {"signal": "KILL", "task_id": ["x"]}),
    ("revoke_by_stamped_headers", {"headers": {"a": "b"}}),
    ("memdump", {}),
    ("no such command", {}),
]


@pytest.fixture
def client(redis_server: RedisServer | ExternalRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def lines(worker: Worker, action: str) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in worker.log.splitlines() if line.startswith("{"))
    return [line for line in found if line.get("action") == action]


def most_lines(began: float) -> float:
    """Return how many lines of one kind there may be since then, by each of two who write them."""
    return 2 + 2 * (time.monotonic() - began) / TALLY_SECONDS


def put_junk(client: redis.Redis, junk: list[bytes]) -> None:
    """Put junk between, before and behind the messages of the queue, and where messages in work and commands are."""
    messages = client.lrange("tagmill:6", 0, -1)
    for number, message in enumerate(messages):
        client.linsert("tagmill:6", "AFTER", message, junk[number % len(junk)])
    client.lpush("tagmill:6", *junk)
    client.rpush("tagmill:6", *junk)
    client.rpush("tagmill", *junk)
    for number, raw in enumerate(junk):
        client.zadd("unacked_index", {f"junk {number}": number})
        client.hset("unacked", f"junk {number}", raw)
    client.zadd("unacked_index", {"without an entry": 1, b"\xff\xfe": 2})


def test_junk_stops_no_worker_and_restarts_none(site: Site, client: redis.Redis) -> None:
    write_folder(site.folder / "shop", 60)
    run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 2)["run"]
    junk = [f"{number:05}".encode() for number in range(300)] + [b"{}", b"[1, 2]", b"\xff\xfe\0\1\2", b'["a", "", "b"]']
    put_junk(client, junk)
    began = time.monotonic()
    with (
        Worker(site.env, site.folder / "one.log", name="one") as one,
        Worker(site.env, site.folder / "two.log", name="two") as two,
    ):
        site.wait_done(run)
        for raw in (
            b"junk!",
            b"7",
            b"[]",
            b"{}",
            b'{"body": 7}',
            b'{"headers": [], "properties": {"delivery_info": 7}}',
        ):
            client.publish("/0.celery.pidbox", raw)
        wait_until(lambda: client.llen("tagmill") + client.llen("tagmill:6") == 0, 60, "the queue to be empty")
        wait_until(lambda: client.hlen("unacked") + client.zcard("unacked_index") == 0, 60, "nothing to be in work")
        assert site.submit(site.folder / "shop", "--model", "color-masks", "--wait")["tagged"] == 60
        for worker in (one, two):
            assert worker.log.count(" ready.") == 1
            assert lines(worker, "worker_ended") == []
            assert len(lines(worker, "message_refused")) <= most_lines(began)
        assert lines(one, "message_refused") + lines(two, "message_refused")
        for worker in (one, two):
            assert worker.stop() == 0
    dead = [json.loads(entry) for entry in client.lrange("tagmill:dead", 0, -1)]
    assert len(dead) == MOST_DEAD
    assert {"00000", "00299"} <= {entry["message"] for entry in dead}
    assert set(dead[0]) == {"time", "worker", "reason", "bytes", "message"}
    assert site.count("SELECT max(attempts) FROM batch") == 1


def test_keys_of_another_type_are_deleted(site: Site, client: redis.Redis) -> None:
    write_folder(site.folder / "shop", 4)
    keys = ("tagmill", "tagmill:6", "tagmill:dead", "unacked", "unacked_index")
    for key in keys:
        client.set(key, "junk")
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        assert client.exists(*keys[:2]) == 0
        assert site.submit(site.folder / "shop", "--model", "colors", "--wait")["tagged"] == 4
        client.set("tagmill:6", "junk")
        wait_until(lambda: not client.exists("tagmill:6"), 60, "the key to be deleted")
        assert site.submit(site.folder / "shop", "--model", "color-masks", "--wait")["tagged"] == 4
        assert worker.log.count(" ready.") == 1
        assert worker.log.count("Traceback") == 0


def test_remote_control_only_answers_questions(site: Site, client: redis.Redis) -> None:
    app = make_app(Settings(broker_url=site.env["TAGMILL_BROKER_URL"]))
    with Worker.bare(site.env, site.folder / "worker.log", "one", "-E") as worker:
        worker.wait_ready()
        for command, arguments in COMMANDS:
            (answer,) = app.control.broadcast(command, arguments=arguments, reply=True, limit=1, timeout=60)
            (said,) = answer.values()
            assert said["error"].startswith("refused: "), (command, said)
        ids = [f"task {number}" for number in range(244)]
        for task_id in ids:
            app.control.revoke(task_id)
        app.control.revoke(ids, terminate=True, reply=True, limit=1, timeout=60)
        app.control.broadcast("ping", pattern="(a+)+$", matcher="pcre")
        look = app.control.inspect(timeout=60, limit=1)
        for question in ("ping", "stats", "active", "reserved", "scheduled", "registered", "active_queues", "revoked"):
            ((node, said),) = getattr(look, question)().items()
            assert node.startswith("one@"), question
        assert said == []  # nothing is revoked
        assert len(lines(worker, "remote_control_refused")) == len(COMMANDS) + 1
        assert len(lines(worker, "remote_message_refused")) == 1
        write_folder(site.folder / "shop", 10)
        assert site.submit(site.folder / "shop", "--model", "colors", "--wait")["tagged"] == 10
        assert worker.log.count(" ready.") == 1


def test_messages_of_unknown_batches_are_dropped_with_one_line(site: Site, client: redis.Redis) -> None:
    app = make_app(Settings(broker_url=site.env["TAGMILL_BROKER_URL"]))
    write_folder(site.folder / "shop", 4)
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        began = time.monotonic()
        publish(app, [(999, number) for number in range(1, 100)])
        assert site.submit(site.folder / "shop", "--model", "colors", "--wait")["tagged"] == 4
        wait_until(lambda: client.hlen("unacked") + client.llen("tagmill:6") == 0, 60, "the messages to be dropped")
        assert 1 <= len(lines(worker, "message_refused")) <= most_lines(began)

"""The real Flower, `tagmill celery flower`, sees a real worker and its tasks over HTTP."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from support.documents import redis_users_in
from support.image_fixtures import write_folder
from support.installation import new_site
from support.processes import TAGMILL, Worker, environment, tagmill, wait_until
from support.services import ExternalRedis, RedisServer, free_port, http

from tagmill.broker.app import make_app
from tagmill.broker.message import TAG_BATCH
from tagmill.broker.publish import publish
from tagmill.fetch_options import HostLimits
from tagmill.settings import Settings
from worker.sources.limits.grants import Ask
from worker.sources.limits.redis_grants import RedisGrants

ROOT = Path(__file__).parents[3]
LOGIN = "operator:not-a-secret"
NODE = f"watched@{socket.gethostname()}"


@dataclass(frozen=True)
class Flower:
    """A running Flower."""

    url: str
    broker_url: str

    def get(self, path: str, login: str = "", body: bytes | None = None) -> tuple[int, str]:
        """Return status and body."""
        return http(self.url + path, login, body)

    def json(self, path: str) -> dict[str, Any]:
        """Return the JSON that a logged-in operator gets."""
        status, body = self.get(path, LOGIN)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def answers(self) -> bool:
        """Return whether Flower takes requests."""
        try:
            return self.get("/healthcheck")[0] == 200
        except OSError:
            return False


@contextmanager
def watching(
    broker_url: str, folder: Path, flower_url: str = "", env: dict[str, str] | None = None
) -> Iterator[Flower]:
    """Run a worker that sends events, and a Flower that watches it with the options of docker-compose.yml."""
    if env is None:
        env = environment(
            broker_url=broker_url, database_url=f"sqlite:///{folder}/tagmill.db", model_store=folder / "models"
        )
        tagmill("db", "upgrade", env=env)
    of_flower = {"FLOWER_BASIC_AUTH": LOGIN, "TAGMILL_BROKER_URL": flower_url or broker_url}
    port = str(free_port())
    command = [TAGMILL, "celery", "flower", "--address=127.0.0.1", f"--port={port}"]
    command += ["--max_tasks=10000", "--purge_offline_workers=3600", "--read_only"]
    with (
        Worker.bare(env, folder / "worker.log", "watched", "-E") as worker,
        Worker(env | of_flower, folder / "flower.log", command) as process,
    ):
        worker.wait_ready()
        started = Flower(f"http://127.0.0.1:{port}", broker_url)
        wait_until(lambda: started.answers() or process.process.poll() is not None, 60, "Flower to answer")
        assert process.process.poll() is None, process.log
        yield started


@pytest.fixture
def flower(redis_server: RedisServer | ExternalRedis, tmp_path: Path) -> Iterator[Flower]:
    """A Flower that watches one worker."""
    with watching(redis_server.url, tmp_path) as started:
        yield started


def test_flower_shows_the_worker_and_its_tasks(flower: Flower) -> None:
    seen = worker_seen_by(flower)
    assert seen["registered"] == [TAG_BATCH]
    assert seen["stats"]["pool"]["max-concurrency"] == 3
    assert [queue["name"] for queue in seen["active_queues"]] == [Settings().queue]

    # Batch 404 does not exist, so the worker claims nothing: the task succeeds and does nothing.
    publish(make_app(Settings(broker_url=flower.broker_url)), [(7, 404)])
    wait_until(lambda: states(flower) == ["SUCCESS"], 60, "Flower to see the task succeed")
    (task,) = flower.json("/api/tasks").values()
    assert (task["name"], task["args"], task["worker"]) == (TAG_BATCH, "run=7, batch=404", NODE)
    assert task["result"] == repr({"run": 7, "batch": 404, "dropped": "no such batch in queue tagmill"})
    assert f'flower_events_total{{task="{TAG_BATCH}",type="task-succeeded",worker="{NODE}"}} 1.0' in metrics(flower)


def test_flowers_list_of_tasks_shows_what_a_task_is_about(flower: Flower) -> None:
    status, page = flower.get("/tasks", LOGIN)
    assert status == 200
    heads = re.findall(r"<th[^>]*>\s*([^<]+?)\s*</th>", page)
    assert heads == ["UUID", "State", "args", "Result", "Received", "Runtime", "Worker"]


def test_flower_requires_a_login_and_changes_nothing(flower: Flower) -> None:
    assert flower.get("/healthcheck") == (200, "OK")
    for path in ("/api/workers", "/api/tasks", "/workers", "/tasks"):
        assert flower.get(path)[0] == 401
        assert flower.get(path, "operator:wrong")[0] == 401
        assert flower.get(path, LOGIN)[0] == 200
    assert flower.get(f"/api/worker/shutdown/{NODE}", body=b"")[0] == 401
    assert flower.get(f"/api/worker/shutdown/{NODE}", LOGIN, b"")[0] == 403  # --read_only
    assert worker_seen_by(flower)["stats"]["pid"] > 0


def test_the_redis_users_of_the_operations_guide_do_their_work_and_outlive_a_restart(
    own_redis_server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server, user = server_with_users(own_redis_server)
    (tmp_path / "site").mkdir()
    site = new_site(tmp_path / "site", f"sqlite:///{tmp_path}/site.db", user("tagmill-worker"))
    shop, watched = tmp_path / "shop", tmp_path / "watched"
    watched.mkdir()
    write_folder(shop, 12)
    submit = (shop, "--model", "colors", "--batch-size", 1)
    waits = site.submit(*submit)["run"]
    server.kill()  # empty afterwards: the worker publishes again what waits
    server.start()
    with watching(user("tagmill-worker"), watched, user("tagmill-flower"), site.env) as flower:
        site.wait_done(waits)
        site.submit(*submit, "--wait")
        wait_until(lambda: states(flower).count("SUCCESS") >= 12, 60, "Flower to see the tasks succeed")
        assert worker_seen_by(flower)["registered"] == [TAG_BATCH]
        tagmill("celery", "inspect", "ping", "--timeout", 60, "--destination", NODE, env=site.env)
        assert "messages_recovered" in (watched / "worker.log").read_text()
    with redis.Redis.from_url(server.url) as administrator:
        refused = {(entry["reason"], entry["object"]) for entry in administrator.acl_log()}
    assert refused <= {("command", "client"), ("command", "client|setinfo")}


def test_the_redis_users_of_the_operations_guide_may_do_no_harm(own_redis_server: Callable[..., RedisServer]) -> None:
    _, user = server_with_users(own_redis_server)
    commands = ("FLUSHALL", "FLUSHDB", "CONFIG GET *", "KEYS *", "SHUTDOWN", "ACL LIST", "DEBUG SLEEP 0", "GET other")
    for name, forbidden in (
        ("tagmill-worker", commands),
        ("tagmill-flower", (*commands, "LPUSH tagmill x", "DEL tagmill", "SET tagmill:seen x", "RPOP tagmill")),
    ):
        with redis.Redis.from_url(user(name)) as client:
            for command in forbidden:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command.split())


def test_the_redis_user_of_workers_may_split_the_limits_of_hosts(
    own_redis_server: Callable[..., RedisServer],
) -> None:
    _, user = server_with_users(own_redis_server)
    (grant,) = RedisGrants(user("tagmill-worker"), "tagmill").ask([Ask("host", HostLimits(2, 5.0), 0, 4, 4)])
    assert (grant.slots, grant.turns) == (2, 4)


def server_with_users(start: Callable[..., RedisServer]) -> tuple[RedisServer, Callable[[str], str]]:
    """Start a Redis with the users of the operations guide; return it, and the function that makes a user's URL."""
    guide = (ROOT / "docs" / "operations" / "redis.md").read_text(encoding="utf-8")
    users = redis_users_in(guide)
    assert users.count("user ") == 3
    server = start(password="ADMIN_PASSWORD", users=users)
    words = {"tagmill-worker": "WORKER_PASSWORD", "tagmill-flower": "FLOWER_PASSWORD"}
    return server, lambda name: server.url.replace("://:ADMIN_PASSWORD", f"://{name}:{words[name]}")


def worker_seen_by(flower: Flower) -> dict[str, Any]:
    """Return what Flower says of the worker, once it has answered all of Flower's questions in time."""
    seen: dict[str, Any] = {}

    def answered() -> bool:
        seen.update(flower.json("/api/workers?refresh=1").get(NODE, {}))
        return {"registered", "stats", "active_queues"} <= seen.keys()

    wait_until(answered, 60, "Flower to see the worker")
    return seen


def states(flower: Flower) -> list[str]:
    return [task["state"] for task in flower.json("/api/tasks").values()]


def metrics(flower: Flower) -> str:
    return flower.get("/metrics")[1]

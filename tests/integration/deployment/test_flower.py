"""The real Flower, `tagmill celery flower`, sees a real worker and its tasks over HTTP."""

import json
import re
import socket
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from support.processes import TAGMILL, Worker, environment, tagmill, wait_until
from support.services import ExternalRedis, RedisServer, free_port, http

from tagmill.broker.app import make_app
from tagmill.broker.message import TAG_BATCH
from tagmill.broker.publish import publish
from tagmill.settings import Settings

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
        except urllib.error.URLError:
            return False


@contextmanager
def watching(broker_url: str, folder: Path) -> Iterator[Flower]:
    """Run a worker that sends events, and a Flower that watches it with the options of docker-compose.yml."""
    env = environment(
        broker_url=broker_url, database_url=f"sqlite:///{folder}/tagmill.db", model_store=folder / "models"
    )
    tagmill("db", "upgrade", env=env)
    port = str(free_port())
    command = [TAGMILL, "celery", "flower", "--address=127.0.0.1", f"--port={port}"]
    command += ["--max_tasks=10000", "--purge_offline_workers=3600", "--read_only"]
    with (
        Worker.bare(env, folder / "worker.log", "watched", "-E") as worker,
        Worker(env | {"FLOWER_BASIC_AUTH": LOGIN}, folder / "flower.log", command) as process,
    ):
        worker.wait_ready()
        started = Flower(f"http://127.0.0.1:{port}", broker_url)
        wait_until(lambda: started.answers() or process.process.poll() is not None, 30, "Flower to answer")
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
    wait_until(lambda: states(flower) == ["SUCCESS"], 20, "Flower to see the task succeed")
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


def test_the_redis_permissions_in_the_operations_guide_are_enough(
    own_redis_server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = own_redis_server()
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    user, rules = re.findall(r"^ACL SETUSER (\S+) (.+)$", guide, flags=re.M)[0]
    with redis.Redis.from_url(server.url) as administrator:
        administrator.execute_command("ACL", "SETUSER", user, *rules.split())
        url = server.url.replace("://", f"://{user}:PASSWORD@")
        with watching(url, tmp_path) as flower:
            assert worker_seen_by(flower)["registered"] == [TAG_BATCH]
            publish(make_app(Settings(broker_url=url)), [(1, batch) for batch in range(1, 20)])
            wait_until(lambda: states(flower) == ["SUCCESS"] * 19, 20, "Flower to see the tasks succeed")
        refused = {(entry["reason"], entry["object"]) for entry in administrator.acl_log()}
    assert refused <= {("command", "client"), ("command", "client|setinfo")}


def worker_seen_by(flower: Flower) -> dict[str, Any]:
    wait_until(lambda: NODE in flower.json("/api/workers?refresh=1"), 20, "Flower to see the worker")
    seen: dict[str, Any] = flower.json("/api/workers?refresh=1")[NODE]
    return seen


def states(flower: Flower) -> list[str]:
    return [task["state"] for task in flower.json("/api/tasks").values()]


def metrics(flower: Flower) -> str:
    return flower.get("/metrics")[1]

"""docker-compose.yml is valid and closed. The command and health check of each service run here as local processes."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from compose_spec import PyCompose
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url
from support.bundles import write_classifier
from support.image_fixtures import write_folder
from support.processes import Worker, wait_until
from support.services import RedisServer, find_postgres, find_redis, free_port, http

from tagmill.broker.app import make_app
from tagmill.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SECRETS = {
    *("REDIS_PASSWORD", "REDIS_WORKER_PASSWORD", "REDIS_FLOWER_PASSWORD", "FLOWER_PASSWORD"),
    *("POSTGRES_PASSWORD", "POSTGRES_WORKER_PASSWORD", "POSTGRES_PRODUCER_PASSWORD"),
}
ONE_SHOT = {"roles", "migrate", "producer"}

Service = dict[str, Any]


def example() -> dict[str, str]:
    """Return the variables of .env.example, whose secrets are empty."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled_in() -> dict[str, str]:
    """Return a filled-in .env. Secrets hold no digits: `LocalSite` replaces ports by their digits."""
    return example() | {name: f"local-{name.lower()}" for name in SECRETS}


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Fill in variables as Compose does: `$$`, `${NAME:-default}`, and `${NAME:?message}`, which raises ValueError."""

    def fill(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        value = variables.get(found["name"], "")
        if not value and found["operator"] == ":?":
            raise ValueError(found["rest"])
        return value or found["rest"] or ""

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\}", fill, text)


@pytest.fixture
def compose() -> dict[str, Any]:
    """The file as Compose reads it: variables filled in, anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load(interpolate(COMPOSE_FILE.read_text(), filled_in()))
    return loaded


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = compose["services"]
    return found


def ours(services: dict[str, Service]) -> dict[str, Service]:
    return {name: service for name, service in services.items() if "build" in service}


def test_a_compose_validator_accepts_the_file(compose: dict[str, Any], tmp_path: Path) -> None:
    accepted = PyCompose.from_yaml(yaml.safe_dump(compose))
    accepted.validate()
    # what this validator does not check
    for service in compose["services"].values():
        assert "image" in service
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        sources = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {source for source in sources if source[0] not in "./"} <= set(compose["volumes"])
    if docker_compose("version").returncode == 0:  # the plugin is enough; no engine is needed
        (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in filled_in().items()))
        options = ("--file", str(COMPOSE_FILE), "--env-file", str(tmp_path / "env"), "--profile", "*")
        done = docker_compose(*options, "config", "--quiet")
        assert done.returncode == 0, done.stderr


def docker_compose(*words: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("docker") or "false", "compose", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("worker.healthchek", {}),
        ("worker.depends_on.redis.condition", "service_ready"),
        ("worker.stop_grace_period", "6 minutes"),
        ("worker.networks", ["elsewhere"]),
        ("flower.ports", ["127.0.0.1:http:5555"]),
    ],
)
def test_the_validator_refuses_a_mistake(compose: dict[str, Any], path: str, value: object) -> None:
    broken = json.loads(json.dumps(compose))
    *parents, last = path.split(".")
    inner = broken["services"]
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    with pytest.raises(ValueError, match=r"\S"):
        PyCompose.from_yaml(yaml.safe_dump(broken)).validate()


def test_the_example_holds_every_variable_and_no_secret() -> None:
    named = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text()))
    assert set(example()) == named
    assert {name for name, value in example().items() if not value} == SECRETS


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_missing_secret_is_an_error_with_a_message(name: str) -> None:
    with pytest.raises(ValueError, match=f"set {name} in .env"):
        interpolate(COMPOSE_FILE.read_text(), filled_in() | {name: ""})


def test_secrets_come_only_from_the_environment(services: dict[str, Service]) -> None:
    raw = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    for name, service in raw.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|AUTH$|_URL$", variable):
                assert re.search(r"\$\{\w+_PASSWORD:\?", value), f"{name}: {variable} holds a literal secret"
        used = str([service.get(key) for key in ("command", "entrypoint", "healthcheck")])
        assert not re.search(r"\$\{\w*PASSWORD", used), f"{name}: a secret would show in `ps`"
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    kept = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    assert kept[0] == "*"
    assert not any(line.startswith(("!.", "!*")) for line in kept)


def test_only_flower_is_published_and_only_on_this_machine(services: dict[str, Service]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"flower": ["127.0.0.1:5555:5555"]}
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"] == "admin:local-flower_password"
    assert not [name for name, service in services.items() if service.get("network_mode") or service.get("privileged")]


def test_redis_and_postgres_are_on_a_network_without_a_way_out(compose: dict[str, Any]) -> None:
    assert compose["networks"]["internal"] == {"internal": True}
    for name in ("redis", "postgres", "roles", "migrate", "producer"):
        assert compose["services"][name]["networks"] == ["internal"]


def test_every_long_running_service_has_a_health_check_and_restarts(services: dict[str, Service]) -> None:
    assert set(services) == {*ONE_SHOT, "redis", "postgres", "worker", "worker-gpu", "flower"}
    for name in set(services) - ONE_SHOT:
        assert services[name]["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries", "start_period"} == set(services[name]["healthcheck"])
    for name in ONE_SHOT:
        assert services[name]["restart"] == "no"
    assert all(service["init"] for service in services.values())


def test_services_start_in_order(services: dict[str, Service]) -> None:
    order = {
        name: {other: wanted["condition"].removeprefix("service_") for other, wanted in service["depends_on"].items()}
        for name, service in services.items()
        if "depends_on" in service
    }
    after_migration = {"redis": "healthy", "migrate": "completed_successfully"}
    assert order == {
        "roles": {"postgres": "healthy"},
        "migrate": {"roles": "completed_successfully"},
        "worker": after_migration,
        "worker-gpu": after_migration,
        "producer": after_migration,
        "flower": {"redis": "healthy"},
    }


def test_no_service_runs_as_root_or_may_become_root(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["user"].partition(":")[0] not in {"", "0", "root"}, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert {service["user"] for service in ours(services).values()} == {"10001:10001"}


def test_catalog_and_models_are_mounted_read_only_if_they_are_only_read(services: dict[str, Service]) -> None:
    for name in ("worker", "worker-gpu"):
        assert services[name]["volumes"] == ["models:/models:ro", "cache:/cache", "./catalog:/catalog:ro"]
    assert services["producer"]["volumes"] == ["models:/models", "./catalog:/catalog:ro"]


def test_settings_of_bench_are_kept_in_a_volume_that_workers_may_write(services: dict[str, Service]) -> None:
    for name in ("worker", "worker-gpu"):
        assert services[name]["environment"]["TAGMILL_CACHE_FOLDER"] == "/cache"
    made = re.search(r"install --directory --owner=10001 --group=10001 (.+)", (ROOT / "Dockerfile").read_text())
    assert made is not None
    assert {"/models", "/cache"} <= set(made[1].split())


def test_the_stop_grace_period_is_longer_than_the_time_limit_of_a_batch(services: dict[str, Service]) -> None:
    limit = make_app(Settings(broker_url="memory://")).conf.task_time_limit
    for name in ("worker", "worker-gpu"):
        minutes = re.fullmatch(r"(\d+)m", services[name]["stop_grace_period"])
        assert minutes is not None
        assert 60 * int(minutes[1]) > limit


def test_a_profile_adds_the_gpu_worker(services: dict[str, Service]) -> None:
    cpu, gpu = services["worker"], services["worker-gpu"]
    assert (gpu["profiles"], gpu["build"]["target"], gpu["environment"]["TAGMILL_DEVICE"]) == (["gpu"], "gpu", "cuda:0")
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert [word if word != "gpu" else "cpu" for word in gpu["command"]] == cpu["command"]
    assert gpu["healthcheck"]["test"][1].replace("gpu@", "cpu@") == cpu["healthcheck"]["test"][1]
    assert {name for name, service in services.items() if "profiles" not in service} == {
        *("redis", "postgres", "roles", "migrate", "worker", "flower"),
    }


def test_images_are_pinned(services: dict[str, Service]) -> None:
    for service in services.values():
        if "build" not in service:
            assert re.fullmatch(r"[a-z]+:\d+(\.\d+)*-alpine", service["image"])
    assert re.search(r"^ARG PYTHON_VERSION=3\.\d+$", (ROOT / "Dockerfile").read_text(), flags=re.M)


def test_images_run_as_the_user_of_the_compose_file_and_install_tested_versions() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, flags=re.M)
    assert [(base, name) for base, name in stages if name in {"cpu", "gpu"}] == [("runtime", "gpu"), ("runtime", "cpu")]
    runtime = dockerfile.partition(" AS runtime\n")[2].partition("\nFROM ")[0]
    assert "USER 10001:10001" in runtime
    installs = [line for line in dockerfile.splitlines() if "pip install" in line]
    assert all("--constraint constraints.txt" in line for line in installs)


def test_images_hold_no_torch() -> None:
    extras = re.findall(r"pip install .*'\.\[(.+)\]'", (ROOT / "Dockerfile").read_text())
    assert sorted(extras) == ["cpu,cloud,heif,parquet,postgres,ops", "gpu,gpu-decode,cloud,heif,parquet,postgres,ops"]
    for chosen in extras:
        installed = closure("tagmill", frozenset(chosen.split(",")))
        assert {"celery", "flower", "psycopg", "redis"} <= installed
        assert not {"torch", "torchvision", "scikit-learn", "matplotlib"} & installed


def closure(package: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]] | None = None) -> set[str]:
    """Return the names of all packages that an installation brings, by the metadata of the packages installed here."""
    seen = set() if seen is None else seen
    if (package, extras) not in seen:
        seen.add((package, extras))
        try:
            wanted = [Requirement(line) for line in requires(package) or ()]
        except PackageNotFoundError:  # wheels for GPUs, which are not installed here
            wanted = []
        for requirement in wanted:
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                closure(canonicalize_name(requirement.name), frozenset(requirement.extras), seen)
    return {name for name, _ in seen}


class LocalSite:
    """The commands, environments and health checks of the services, with the addresses and folders of this machine."""

    def __init__(self, services: dict[str, Service], addresses: dict[str, str], folder: Path) -> None:
        self._services = services
        self.addresses = addresses
        self.folder = folder

    def words(self, name: str, key: str) -> list[str]:
        """Return `command` or `entrypoint` of a service."""
        return [self._local(word) for word in self._services[name].get(key, [])]

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a service, with the variables that every container has."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TAGMILL_", "FLOWER_"))}
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        given = {key: self._local(str(value)) for key, value in self._services[name].get("environment", {}).items()}
        return kept | given | {"PATH": path, "HOSTNAME": socket.gethostname(), "COLUMNS": "200"}

    def run(self, name: str, *command: object) -> str:
        """Run a one-shot service with its own command or another one. Return what it printed."""
        words = [*self.words(name, "entrypoint"), *(map(str, command) if command else self.words(name, "command"))]
        done = self._run(name, words, 120)
        assert done.returncode == 0, f"{name} {words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> Worker:
        """Start a long-running service."""
        command = self._found(name, self.words(name, "command"))
        return Worker(self.environment(name), self.folder / f"{name}.log", command)

    def health(self, name: str) -> int:
        """Return the exit code of a service's own health check."""
        kind, *words = (self._local(word) for word in self._services[name]["healthcheck"]["test"])
        return self._run(name, ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words, 30).returncode

    def _local(self, text: str) -> str:
        # one pass, so that replacements are not replaced again
        known = "|".join(map(re.escape, sorted(self.addresses, key=len, reverse=True)))
        return re.sub(rf"(?<![\w.])({known})(?!\w)", lambda found: self.addresses[found[0]], text)

    def _run(self, name: str, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._found(name, words),
            env=self.environment(name),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _found(self, name: str, words: list[str]) -> list[str]:
        # subprocess would search the PATH of this process
        program = shutil.which(words[0], path=self.environment(name)["PATH"])
        assert program is not None, f"{name}: {words[0]} is not installed"
        return [program, *words[1:]]


class ComposedRedis(RedisServer):
    """A Redis that the compose file's own command starts."""

    def __init__(self, site: LocalSite) -> None:
        super().__init__(password=site.environment("redis")["REDISCLI_AUTH"])
        site.addresses |= {"redis:6379": f"127.0.0.1:{self.port}", "6379": str(self.port), "/data": str(self.folder)}
        site.addresses |= {"/tmp/users.acl": str(self.folder / "users.acl")}
        self._site = site

    def _command(self) -> list[str]:
        environment = self._site.environment("redis")
        given = [f"{name}={value}" for name, value in environment.items() if name.startswith(("PATH", "REDIS"))]
        command = self._site.words("redis", "command")
        if self.before_7:  # it has no rights to read alone
            command = [word.replace(" %R~tagmill*", "") for word in command]
        return ["env", *given, *command]


#: replacements of two programs that the container images have, but not every wheel with a server
STAND_INS = {
    "redis-cli": "import os, redis, sys; login = {'port': int(sys.argv[2]), 'password': os.environ['REDISCLI_AUTH']}"
    "; redis.Redis(**login).ping() and print('PONG')",
    "pg_isready": "import sys; from psycopg.pq import PGconn, Ping; host, port = sys.argv[2], sys.argv[4]"
    "; sys.exit(PGconn.ping(f'host={host} port={port}'.encode()) != Ping.OK)",
}


@pytest.fixture
def site(services: dict[str, Service], postgres_url: str, tmp_path: Path) -> LocalSite:
    """All services but Redis, which has no address before it starts."""
    database = make_url(postgres_url)
    (tmp_path / "bin").mkdir()
    for name in ("redis-server", "redis-cli", "pg_isready", "psql"):
        places = (Path(find_redis()).with_name(name), find_postgres()[0] / name)
        found = next((place for place in places if place.exists()), shutil.which(name))
        words = [str(found)] if found else [sys.executable, "-c", STAND_INS[name]]
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    host = str(database.query.get("host", database.host))
    login = {"PGHOST": host, "PGPORT": database.port or 5432, "PGUSER": database.username}
    login |= {"PGDATABASE": database.database}
    services["roles"]["environment"] |= login | ({"PGPASSWORD": database.password} if database.password else {})
    urls = {
        services[name]["environment"]["TAGMILL_DATABASE_URL"]: database.set(username=role) if role else database
        for name, role in (("migrate", None), ("worker", "tagmill_worker"), ("producer", "tagmill_producer"))
    }
    addresses = {
        **{url: found.render_as_string(hide_password=False) for url, found in urls.items()},
        "5432": str(database.port or 5432),
        "5555": str(free_port()),
        "0.0.0.0": "127.0.0.1",
        "/models": str(tmp_path / "models"),
        "/cache": str(tmp_path / "cache"),
        "/catalog": str(tmp_path / "catalog"),
    }
    if host.startswith("/"):  # the server of the tests listens on a Unix socket
        check = services["postgres"]["healthcheck"]["test"]
        services["postgres"]["healthcheck"]["test"] = [host if word == "127.0.0.1" else word for word in check]
    return LocalSite(services, addresses, tmp_path)


def test_each_service_runs_its_own_command_and_health_check(site: LocalSite) -> None:
    write_folder(site.folder / "catalog", 12)
    write_classifier(site.folder / "colors.onnx")
    flower = f"http://127.0.0.1:{site.addresses['5555']}"
    with ComposedRedis(site) as broker:
        assert site.health("redis") == 0
        assert site.health("postgres") == 0
        site.run("roles")
        site.run("roles")  # changes nothing
        assert "is at schema" in site.run("migrate")
        assert site.run("producer") == "no runs yet; see `tagmill submit`\n"
        with site.start("worker") as worker, site.start("flower"):
            worker.wait_ready()
            assert site.health("worker") == 0
            wait_until(lambda: site.health("flower") == 0, 30, "Flower to answer")
            site.run("producer", "model", "add", site.folder / "colors.onnx")
            site.run("producer", "submit", site.folder / "catalog", "--model", "colors", "--wait")
            assert json.loads(site.run("producer", "run", "list", "--json"))[0]["tagged"] == 12
            assert http(f"{flower}/api/workers?refresh=1")[0] == 401
            status, workers = http(f"{flower}/api/workers?refresh=1", "admin:local-flower_password")
            assert (status, list(json.loads(workers))) == (200, [f"cpu@{socket.gethostname()}"])
            with redis.Redis.from_url(broker.url) as client:
                logins = {found["user"] for found in client.client_list()}
            assert logins == {"default", "tagmill-worker", "tagmill-flower"}  # this one, and the services'
            assert worker.stop() == 0
            assert site.health("worker") != 0
        assert site.health("flower") != 0
        broker.kill()
        assert site.health("redis") != 0


def test_redis_keeps_its_queue_and_its_password(site: LocalSite) -> None:
    with ComposedRedis(site) as server:
        with redis.Redis.from_url(server.url) as client:
            wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
            assert {name: client.config_get(name)[name] for name in wanted} == wanted
            client.lpush("tagmill", "message")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.llen("tagmill") == 1
        once = Retry(NoBackoff(), 0)  # the retries of the client take seconds
        with pytest.raises(redis.AuthenticationError), redis.Redis(port=server.port, retry=once) as stranger:
            stranger.ping()
        shown = Path(f"/proc/{server.pid}/cmdline")
        assert not shown.exists() or server.password not in shown.read_text()

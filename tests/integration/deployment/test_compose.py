"""docker-compose.yml is valid and closed. The command and health check of each service run here as local processes."""

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml
from compose_spec import PyCompose
from psycopg.sql import SQL, Identifier
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url
from support.bundles import write_classifier
from support.debian import find_program
from support.image_fixtures import write_folder
from support.processes import Worker, wait_until
from support.services import RedisServer, drop_database, find_postgres, find_redis, free_port, http, libpq_url

from tagmill.broker.app import make_app
from tagmill.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE_FILE = ROOT / "docker-compose.yml"
ONE_SHOT = {"roles", "migrate", "producer", "restore"}
WORKERS = ("worker", "worker-gpu")
MONITORING = ("exporter", "node-exporter", "prometheus", "grafana")

Service = dict[str, Any]


def example() -> dict[str, str]:
    """Return the variables of .env.example."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Fill in variables as Compose does: `$$` and `${NAME:-default}`."""

    def fill(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found["name"]) or found["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}", fill, text)


@pytest.fixture
def compose() -> dict[str, Any]:
    """The file as Compose reads it: variables filled in, anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load(interpolate(COMPOSE_FILE.read_text(), example()))
    return loaded


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = compose["services"]
    return found


def ours(services: dict[str, Service]) -> dict[str, Service]:
    return {name: service for name, service in services.items() if "build" in service}


def test_a_compose_validator_accepts_the_file(compose: dict[str, Any]) -> None:
    accepted = PyCompose.from_yaml(yaml.safe_dump(compose))
    accepted.validate()
    # what this validator does not check
    for service in compose["services"].values():
        assert "image" in service
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        sources = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {source for source in sources if source[0] not in "./"} <= set(compose["volumes"])
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
    if docker_compose("version").returncode == 0:  # the plugin is enough; no engine is needed
        options = ("--file", str(COMPOSE_FILE), "--env-file", str(ROOT / ".env.example"), "--profile", "*")
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


def test_the_example_holds_every_variable_with_its_default() -> None:
    defaults = re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE_FILE.read_text())
    assert example() == dict(defaults)
    assert not re.search(r"(?<!\$)\$(?!\$|\{\w+:-)", COMPOSE_FILE.read_text()), "a variable without a default"


def test_passwords_are_files_and_no_other_service_sees_them(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        used = set(re.findall(r"/run/secrets/(\w+)", str(service)))
        # read by the image itself, as POSTGRES_PASSWORD_FILE, and by the files of Grafana
        elsewhere = {"postgres": {"postgres_password"}, "grafana": {"grafana_password", "postgres_reader_password"}}
        assert used | elsewhere.get(name, set()) == set(service.get("secrets", ())), name
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|AUTH|_URL", variable):
                assert re.fullmatch(r"\w+_FILE", variable), f"{name}: {variable}"
                assert value.startswith("/run/secrets/")
    assert "owner_database_url" in compose["services"]["migrate"]["secrets"]
    owners = [
        name for name, service in compose["services"].items() if "postgres_password" in service.get("secrets", ())
    ]
    assert sorted(owners) == ["postgres", "restore", "roles"]
    assert {".env", "secrets/"} <= set((ROOT / ".gitignore").read_text().split())
    kept = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    assert kept[0] == "*"
    assert not any(line.startswith(("!.", "!*")) for line in kept)


def secrets_script(folder: Path, script: Path = ROOT / "deploy/compose/secrets.sh") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(script), str(folder)], capture_output=True, text=True, check=False)


def test_one_command_makes_every_secret_and_keeps_what_is_there(compose: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "deploy" / "compose" / "secrets.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "compose" / "secrets.sh", script)
    (tmp_path / ".env").write_text("REDIS_PASSWORD=\nPOSTGRES_PASSWORD=of-before\n")
    folder = tmp_path / "secrets"
    assert secrets_script(folder, script).returncode == 0
    made = {file.name: file.read_text().strip() for file in folder.iterdir()}
    assert {name: {"file": f"./secrets/{name}"} for name in made} == compose["secrets"]
    assert (made["postgres_password"], len(made["redis_password"])) == ("of-before", 48)
    assert made["owner_database_url"] == "postgresql+psycopg://tagmill:of-before@postgres:5432/tagmill"
    passwords = [value for name, value in made.items() if name.endswith("_password")]
    assert len(set(passwords)) == len(passwords) == 10
    assert (folder.stat().st_mode & 0o777, (folder / "redis_password").stat().st_mode & 0o777) == (0o700, 0o444)
    (folder / "redis_worker_password").unlink()
    assert secrets_script(folder, script).returncode == 0
    again = {file.name: file.read_text().strip() for file in folder.iterdir()}
    assert {name for name in made if made[name] != again[name]} == {"redis_worker_password", "worker_broker_url"}
    assert again["redis_worker_password"] in again["worker_broker_url"]


@pytest.mark.parametrize(("password", "said"), [("pass@word", "part of a URL"), ("", "is empty")])
def test_a_password_that_a_url_cannot_hold_is_refused_in_one_line(tmp_path: Path, password: str, said: str) -> None:
    (tmp_path / "redis_password").write_text(password)
    done = secrets_script(tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "pass@word" not in line


def test_only_pages_with_a_use_are_published_and_only_on_this_machine(services: dict[str, Service]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    pages = {"flower": 5555, "prometheus": 9090, "grafana": 3000}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in pages.items()}
    assert 'FLOWER_BASIC_AUTH="$FLOWER_USER:$(cat ' in services["flower"]["command"][2]
    assert not [name for name, service in services.items() if service.get("network_mode") or service.get("privileged")]


def test_redis_and_postgres_are_on_a_network_without_a_way_out(compose: dict[str, Any]) -> None:
    assert compose["networks"]["internal"] == {"internal": True}
    for name in ("redis", "postgres", "roles", "migrate", "producer", "backup", "restore", "exporter", "node-exporter"):
        assert compose["services"][name]["networks"] == ["internal"]


def test_prometheus_finds_each_worker_once_and_by_the_addresses_of_this_file(services: dict[str, Service]) -> None:
    # Docker's DNS has an address of a container for each network that it shares with who asks.
    for name in WORKERS:
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"]) == {"internal"}
    jobs = yaml.safe_load((ROOT / "deploy/monitoring/prometheus/prometheus.yml").read_text())["scrape_configs"]
    found = {job["job_name"]: job for job in jobs}
    (workers,) = found["tagmill-worker"]["dns_sd_configs"]
    assert tuple(workers["names"]) == WORKERS
    for name in (*WORKERS, "exporter"):
        given = services[name]["environment"]
        port = workers["port"] if name in WORKERS else found["tagmill-exporter"]["static_configs"][0]["targets"][0]
        assert (given["TAGMILL_METRICS_HOST"], str(given["TAGMILL_METRICS_PORT"])) == (
            "0.0.0.0",
            str(port).rpartition(":")[2],
        )


def test_monitoring_is_a_profile_and_grafana_reads_the_views_alone(services: dict[str, Service]) -> None:
    assert {name for name, service in services.items() if service.get("profiles") == ["monitoring"]} == set(MONITORING)
    assert services["grafana"]["secrets"] == ["grafana_password", "postgres_reader_password"]
    assert services["migrate"]["command"][-2:] == ["--reader", "tagmill_reader"]
    folder = ROOT / "deploy" / "monitoring" / "grafana"
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string((folder / "grafana.ini").read_text())
    assert settings["auth.anonymous"]["enabled"] == settings["users"]["allow_sign_up"] == "false"
    files = {*settings["security"].values(), (folder / "provisioning/datasources/tagmill.yml").read_text()}
    read = {name for text in files for name in re.findall(r"\$__file{/run/secrets/(\w+)}", text)}
    assert read == set(services["grafana"]["secrets"])


def test_every_long_running_service_has_a_health_check_and_restarts(services: dict[str, Service]) -> None:
    assert set(services) == {*ONE_SHOT, *WORKERS, *MONITORING, "redis", "postgres", "flower", "backup"}
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
        "exporter": after_migration,
        "grafana": {"migrate": "completed_successfully"},
        "backup": {"migrate": "completed_successfully"},
        "restore": {"roles": "completed_successfully"},
    }


def test_no_service_runs_as_root_or_may_become_root(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["user"].partition(":")[0] not in {"", "0", "root"}, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert {service["user"] for service in ours(services).values()} == {"10001:10001"}


def test_every_service_has_limits(services: dict[str, Service]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"memory", "cpus", "pids"}, name
        assert re.fullmatch(r"\d+[mg]", limits["memory"]), name
        # a machine with one core must start it: Docker refuses a container with more CPUs than there are
        assert float(limits["cpus"]) in {0, 1}, name


def test_catalog_and_models_are_mounted_read_only_if_they_are_only_read(services: dict[str, Service]) -> None:
    for name in WORKERS:
        assert services[name]["volumes"] == ["models:/models:ro", "cache:/cache", "./catalog:/catalog:ro"]
    assert services["producer"]["volumes"] == ["models:/models", "./catalog:/catalog:ro", "textfile:/textfile"]
    for name in ("node-exporter", "prometheus", "grafana"):
        own = {"prometheus-data:/prometheus", "grafana-data:/var/lib/grafana"}
        assert all(volume.endswith(":ro") for volume in set(services[name]["volumes"]) - own)


def test_settings_of_bench_are_kept_in_a_volume_that_workers_may_write(services: dict[str, Service]) -> None:
    for name in WORKERS:
        assert services[name]["environment"]["TAGMILL_CACHE_FOLDER"] == "/cache"
    made = re.search(r"install --directory --owner=10001 --group=10001 (.+)", (ROOT / "Dockerfile").read_text())
    assert made is not None
    assert {"/models", "/cache", "/textfile"} <= set(made[1].split())


def test_the_stop_grace_period_is_longer_than_the_time_limit_of_a_batch(services: dict[str, Service]) -> None:
    limit = make_app(Settings(broker_url="memory://")).conf.task_time_limit
    for name in WORKERS:
        minutes = re.fullmatch(r"(\d+)m", services[name]["stop_grace_period"])
        assert minutes is not None
        assert 60 * int(minutes[1]) > limit


def test_a_profile_adds_the_gpu_worker(services: dict[str, Service]) -> None:
    cpu, gpu = services["worker"], services["worker-gpu"]
    assert (gpu["profiles"], gpu["build"]["target"], gpu["environment"]["TAGMILL_DEVICE"]) == (["gpu"], "gpu", "cuda:0")
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert [word if word != "gpu" else "cpu" for word in gpu["command"]] == cpu["command"]
    assert gpu["healthcheck"]["test"] == cpu["healthcheck"]["test"]
    assert {name for name, service in services.items() if "profiles" not in service} == {
        *("redis", "postgres", "roles", "migrate", "worker", "flower", "backup"),
    }


def test_images_are_pinned(services: dict[str, Service]) -> None:
    pinned = r"[a-z/-]+:(\d+\.\d+(\.\d+)?-[a-z0-9.-]+|v?\d+\.\d+\.\d+)(@sha256:[0-9a-f]{64})?"
    for service in services.values():
        if "build" not in service:
            assert re.fullmatch(pinned, service["image"])
    (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.M)
    assert re.fullmatch(pinned, base)


def test_images_have_the_version_of_tagmill_so_that_the_one_before_stays(services: dict[str, Service]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert example()["TAGMILL_VERSION"] == project["version"]
    for name, service in ours(services).items():
        target = service["build"]["target"]
        assert service["image"] == f"tagmill:{project['version']}-{target}", name
        assert service["build"]["args"] == {"TAGMILL_VERSION": project["version"]}
    assert f"ARG TAGMILL_VERSION={project['version']}\n" in (ROOT / "Dockerfile").read_text()


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
        command = self._found(name, [*self.words(name, "entrypoint"), *self.words(name, "command")])
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
        super().__init__(password=(site.folder / "secrets" / "redis_password").read_text().strip())
        site.addresses |= {"redis:6379": f"127.0.0.1:{self.port}", "6379": str(self.port), "/data": str(self.folder)}
        site.addresses |= {"/tmp/users.acl": str(self.folder / "users.acl")}
        for name in ("worker", "flower"):
            file = site.folder / "secrets" / f"{name}_broker_url"
            url = file.read_text().replace("redis:6379", f"127.0.0.1:{self.port}")
            file.unlink()
            file.write_text(url)
        self._site = site

    def _command(self) -> list[str]:
        environment = self._site.environment("redis")
        given = [f"PATH={environment['PATH']}"]
        command = self._site.words("redis", "command")
        if self.before_7:  # it has no rights to read alone
            command = [word.replace(" %R~tagmill*", "") for word in command]
        return ["env", *given, *command]


#: what the commands of the services start
PROGRAMS = (*("redis-server", "redis-cli", "pg_isready", "psql", "pg_dump", "pg_restore", "createdb", "dropdb"),)
#: programs of the monitoring's images, and what Debian calls them
MONITORS = {"prometheus": "prometheus", "promtool": "promtool", "node_exporter": "prometheus-node-exporter"}
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
    for name in ("bin", "models"):
        (tmp_path / name).mkdir()
    for name in PROGRAMS:
        places = (Path(find_redis()).with_name(name), find_postgres()[0] / name)
        found = next((place for place in places if place.exists()), shutil.which(name))
        words = [str(found)] if found else [sys.executable, "-c", STAND_INS[name]]
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    for name, program in MONITORS.items():
        words = find_program(program, "prometheus" if program == "promtool" else program).command()
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    host = str(database.query.get("host", database.host))
    login = {"PGHOST": host, "PGPORT": database.port or 5432, "PGDATABASE": database.database}
    for name in ("roles", "restore"):
        services[name]["environment"] |= login | {"PGUSER": database.username}
    services["backup"]["environment"] |= login
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    if database.password:
        (secrets / "postgres_password").write_text(str(database.password))
    assert secrets_script(secrets).returncode == 0
    for name, role in (
        ("owner", database.username),
        ("worker", "tagmill_worker"),
        ("producer", "tagmill_producer"),
        ("reader", "tagmill_reader"),
    ):
        file = secrets / f"{name}_database_url"
        password = make_url(file.read_text().strip()).password if name != "owner" else database.password
        file.unlink()
        file.write_text(database.set(username=role, password=password).render_as_string(hide_password=False))
    addresses = {
        "5432": str(database.port or 5432),
        **{port: str(free_port()) for port in ("5555", "9090", "9100", "9808", "9809")},
        "0.0.0.0": "127.0.0.1",
        "/models": str(tmp_path / "models"),
        "/cache": str(tmp_path / "cache"),
        "/catalog": str(tmp_path / "catalog"),
        "/run/secrets": str(secrets),
        "/etc/prometheus": str(ROOT / "deploy" / "monitoring" / "prometheus"),
        "/prometheus": str(tmp_path / "prometheus"),
        "/textfile": str(tmp_path / "textfile"),
        "/backup.sh": str(ROOT / "deploy" / "backup" / "backup.sh"),
        "/var/lib/postgresql/data": str(tmp_path / "backups"),
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
        with site.start("worker") as worker, site.start("flower"), site.start("exporter"):
            worker.wait_ready()
            wait_until(lambda: site.health("worker") == 0, 60, "the worker to be ready")
            wait_until(lambda: site.health("flower") == 0, 60, "Flower to answer")
            site.run("producer", "model", "add", site.folder / "colors.onnx")
            site.run("producer", "submit", site.folder / "catalog", "--model", "colors", "--wait")
            assert json.loads(site.run("producer", "run", "list", "--json"))[0]["tagged"] == 12
            assert site.health("exporter") == 0
            wait_until(
                lambda: 'tagmill_runs{state="done"} 1.0' in metrics(site, "9809"), 60, "the exporter to see the run"
            )
            assert "tagmill_broker_memory_limit_bytes 5.36870912e+08" in metrics(site, "9809")
            assert 'status="tagged"} 12.0' in metrics(site, "9808")
            assert http(f"{flower}/api/workers?refresh=1")[0] == 401
            password = (site.folder / "secrets" / "flower_password").read_text().strip()
            status, workers = http(f"{flower}/api/workers?refresh=1", f"admin:{password}")
            assert (status, list(json.loads(workers))) == (200, [f"cpu@{socket.gethostname()}"])
            with redis.Redis.from_url(broker.url) as client:
                logins = {found["user"] for found in client.client_list()}
            assert logins == {"default", "tagmill-worker", "tagmill-flower"}  # this one, and the services'
            assert worker.stop() == 0
            assert site.health("worker") != 0
        assert site.health("flower") != 0
        broker.kill()
        assert site.health("redis") != 0


def metrics(site: LocalSite, port: str) -> str:
    return http(f"http://127.0.0.1:{site.addresses[port]}/metrics")[1]


def test_prometheus_and_node_exporter_run_with_their_options_and_health_checks(site: LocalSite) -> None:
    (site.folder / "textfile").mkdir()
    (site.folder / "textfile" / "drift.prom").write_text("tagmill_drift_timestamp_seconds 7\n")
    with site.start("prometheus"), site.start("node-exporter"):
        wait_until(lambda: site.health("prometheus") == 0, 60, "Prometheus to answer")
        wait_until(lambda: site.health("node-exporter") == 0, 60, "node_exporter to answer")
        said = metrics(site, "9100")
        assert "tagmill_drift_timestamp_seconds 7" in said
        assert "node_filesystem_avail_bytes{" in said
        assert "node_cpu" not in said


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


@pytest.mark.parametrize("name", ["BACKUP_KEEP", "BACKUP_SECONDS"])
def test_a_backup_refuses_a_setting_that_is_no_whole_number_and_deletes_nothing(tmp_path: Path, name: str) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "pg_dump").write_text('#!/bin/sh\ntouch "${2#--file=}"\n')
    (commands / "pg_restore").write_text("#!/bin/sh\n")
    for command in commands.iterdir():
        command.chmod(0o755)
    dumps = [tmp_path / f"tagmill-{year}0101T000000Z.dump" for year in (2020, 9999)]
    for dump in dumps:
        dump.touch()
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"

    def back_up(**settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": path, "BACKUP_FOLDER": str(tmp_path)} | settings
        script = ["sh", str(ROOT / "deploy" / "backup" / "backup.sh"), "once"]
        return subprocess.run(script, env=environment, capture_output=True, text=True)

    for value in ("0", "x", "-1", "1.5"):
        refused = back_up(**{name: value})
        assert refused.returncode == 78
        assert f"error: {name} is {value}: set it to a whole number from 1 on" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert sorted(tmp_path.glob("*.dump")) == dumps

    assert ", 3 kept" in back_up(**{name: ""}).stdout
    # The clock of a backup was wrong: the new one is not the last by name, and stays.
    assert ", 2 kept" in back_up(BACKUP_KEEP="1").stdout
    assert dumps[1].exists()


def test_a_backup_restores_the_results_and_keeps_what_was_there(
    site: LocalSite, postgres_url: str, postgres_server_url: str
) -> None:
    write_folder(site.folder / "catalog", 6)
    backups = site.folder / "backups"
    backups.mkdir()
    (backups / "tagmill-20200101T000000Z.dump").write_text("the first of nine")
    for day in range(2, 10):
        (backups / f"tagmill-2020010{day}T000000Z.dump").touch()
    os.utime(backups / "tagmill-20200109T000000Z.dump", (0, 0))
    site.run("roles")
    site.run("migrate")
    bundle = write_classifier(site.folder / "colors.onnx")
    site.run("migrate", "tagmill", "tag", site.folder / "catalog", "--bundle", bundle)
    results = site.run("producer", "results", "--format", "jsonl")
    assert len(results.splitlines()) == 6
    assert site.health("backup") != 0
    # Without Compose, an administrator restores tables of another role.
    with psycopg.connect(libpq_url(postgres_url)) as administrator:
        administrator.execute("ALTER TABLE batch OWNER TO tagmill_producer")
    script = site.words("backup", "command")[:2]
    assert ", 7 kept" in site.run("backup", *script, "once")
    assert site.health("backup") == 0
    names = sorted(file.name for file in backups.iterdir())
    assert names[:-1] == [f"tagmill-2020010{day}T000000Z.dump" for day in range(4, 10)]
    for lost in (True, False):
        if lost:
            drop_database(postgres_server_url, postgres_url)
        said = site.run("restore", names[-1])
        with psycopg.connect(libpq_url(postgres_url)) as administrator:
            owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
            assert administrator.execute(owner).fetchone() == ("tagmill_producer",)
            for statement in ("ALTER DATABASE {} OWNER TO CURRENT_USER", "ALTER TABLE batch OWNER TO CURRENT_USER"):
                administrator.execute(SQL(statement).format(Identifier(administrator.info.dbname)))
    site.run("roles")
    assert "is at schema" in site.run("migrate")
    assert site.run("producer", "results", "--format", "jsonl") == results
    kept = make_url(postgres_url).set(database=said.split("what was there is ")[1].partition(".")[0])
    drop_database(postgres_server_url, kept.render_as_string(hide_password=False))

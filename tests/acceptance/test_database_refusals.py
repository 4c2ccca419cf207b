"""A database that refuses every connection ends each command with 78 and one line; one that is down, with 75."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL
from support.bundles import write_classifier
from support.image_fixtures import write_folder
from support.pgbouncer import PgBouncerServer
from support.processes import TAGMILL, environment, logged_error, tagmill
from support.services import ExternalRedis, PostgresServer, RedisServer, libpq_url

HBA = "local all postgres trust\nlocal closed all reject\nlocal all all scram-sha-256\n"
#: user, password, database and parameters of a URL
Login = tuple[str, str | None, str, dict[str, str]]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with the role `app`, its database, and one that it may not enter."""
    with PostgresServer() as server:
        with psycopg.connect(libpq_url(server.url), autocommit=True) as connection:
            connection.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
            for name in ("app", "closed", "private"):
                connection.execute(f"CREATE DATABASE {name}".encode())
            connection.execute("REVOKE CONNECT ON DATABASE private FROM public")
            (server.folder / "data" / "pg_hba.conf").write_text(HBA)
        server.stop()
        yield server.start()


@pytest.fixture(scope="module")
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncerServer]:
    """A PgBouncer in front of it, with users and databases of its own."""
    databases = "app = {here} user=app password=right\nlost = {here} dbname=nowhere user=app password=right"
    with PgBouncerServer(
        postgres, databases, {"app": "right"}, auth_type="scram-sha-256", server_login_retry=1
    ) as server:
        yield server


def refused(url: str) -> str:
    """Run a command that needs the database; return its one line. Its exit code is 78."""
    line = tagmill("db", "check", env=environment(database_url=url), expect=78).stderr
    assert len(line.splitlines()) == 1
    assert line.startswith("error: the database refuses the connection (")
    return line


@pytest.mark.parametrize(
    ("login", "reason", "advice"),
    [
        (("app", "wrong", "app", {}), 'password authentication failed for user "app"', "check user and password"),
        (("app", None, "app", {}), "no password supplied", "check user and password"),
        (("nobody", "right", "app", {}), 'password authentication failed for user "nobody"', "check user and password"),
        (("app", "right", "nowhere", {}), 'database "nowhere" does not exist', "create the database"),
        (("app", "right", "closed", {}), "pg_hba.conf rejects connection", "let this user connect"),
        (("app", "right", "private", {}), 'permission denied for database "private"', "let this user connect"),
        (("app", "right", "app", {"options": "-c nosuch=1"}), "unrecognized configuration parameter", "parameter"),
        (("app", "right", "app", {"sslmode": "nosuch"}), 'invalid sslmode value: "nosuch"', "parameter"),
        (("app", "right", "app", {"nosuch": "1"}), 'invalid connection option "nosuch"', "parameter"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_a_server_that_refuses(postgres: PostgresServer, login: Login, reason: str, advice: str) -> None:
    user, password, database, query = login
    url = URL.create("postgresql", user, password, database=database, query={"host": str(postgres.folder)} | query)
    line = refused(url.render_as_string(hide_password=False))
    assert reason in line
    assert advice in line.partition("); ")[2]


@pytest.mark.parametrize(
    ("login", "query", "reason", "advice"),
    [
        (("app", "app", "wrong"), "", "SASL authentication failed", "check user and password"),
        (("app", "nobody", "right"), "", "SASL authentication failed", "check user and password"),
        (("nowhere", "app", "right"), "", "no such database: nowhere", "create the database"),
        (("lost", "app", "right"), "", 'database "nowhere" does not exist', "create the database"),
        (("app", "app", "right"), "?options=-c%20work_mem%3D1MB", "unsupported startup parameter", "parameter"),
        (("app", "app", "right"), "?sslmode=require", "server does not support SSL", "correct sslmode"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_a_pgbouncer_that_refuses(
    pgbouncer: PgBouncerServer, login: tuple[str, str, str], query: str, reason: str, advice: str
) -> None:
    line = refused(pgbouncer.url(*login) + query)
    assert reason in line
    assert advice in line.partition("); ")[2]


def test_a_pgbouncer_in_statement_mode_is_refused(postgres: PostgresServer) -> None:
    with PgBouncerServer(postgres, pool_mode="statement") as server:
        line = refused(server.url("app"))
    assert line.endswith(
        "(transaction blocks not allowed in statement pooling mode); set pool_mode = transaction in the pooler\n"
    )


def test_every_command_and_worker_is_refused_with_the_same_line(
    postgres: PostgresServer, redis_server: RedisServer | ExternalRedis, tmp_path: Path
) -> None:
    url = f"postgresql://app:wrong@/app?host={postgres.folder}"
    env = environment(database_url=url, broker_url=redis_server.url, model_store=tmp_path / "models")
    write_folder(tmp_path / "shop", 1)
    line = refused(url).rstrip()
    assert "password authentication failed" in line
    local = ["tag", tmp_path / "shop", "--bundle", write_classifier(tmp_path / "c.onnx")]
    for command in (local, ["submit", tmp_path, "--model", "colors"]):
        assert tagmill(*command, env=env, expect=78).stderr.splitlines()[-1] == line
    assert logged_error(tagmill("worker", "start", env=env, expect=78).stderr).rstrip() == line
    bare = [TAGMILL, "celery", "worker", "-P", "threads", "-c", "1"]
    done = subprocess.run(bare, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 78
    assert line in done.stderr.splitlines()


@pytest.mark.parametrize("down", ["refused", "unknown host"])
def test_a_database_that_is_down_may_be_asked_again(down: str, tmp_path: Path) -> None:
    host = "127.0.0.1:1" if down == "refused" else "nosuch.invalid"
    env = environment(database_url=f"postgresql://app:right@{host}/app")
    line = tagmill("db", "check", env=env, expect=75).stderr
    assert line.startswith("error: the database does not answer (")

"""Fixtures: real Redis and PostgreSQL servers, one each for a test session, and fresh databases on them."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
from support.s3_server import S3Server
from support.schema import postgres_template, sqlite_file
from support.services import (
    DATABASE_URL,
    REDIS_URL,
    ExternalRedis,
    PostgresServer,
    RedisServer,
    create_database,
    drop_database,
    find_pgvector,
)

from tagmill.stores.object_store import open_bucket

# In the background (`make test &`) a shell has Ctrl-C ignored, which the commands that tests interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start hundreds of processes: each would compile every module that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine is no finding: examples are judged by what they do, not by how long they take. They are the same each
# time, so that a change is not blamed for what it did not do; `--hypothesis-profile=default` looks for others.
hypothesis.settings.register_profile(
    "tagmill", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tagmill")

# The modules that tests import hold millions of objects, which live as long as the process: to search them for garbage
# again and again took half of the time of the collection and a fifth of that of an export.
gc.disable()


def pytest_collection_finish() -> None:
    """Search only what tests make for garbage, and less often than Python does by default."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)
    gc.enable()


#: fixtures that upgrade their database: it is a copy of one that was upgraded, because that is quicker
UPGRADING = {"engine", "site"}


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer | ExternalRedis]:
    """The Redis of this session (under pytest-xdist: of this worker)."""
    if url := os.environ.get(REDIS_URL):
        yield ExternalRedis(url)
        return
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(session_redis: RedisServer | ExternalRedis) -> RedisServer | ExternalRedis:
    """The session's Redis, emptied. Use its `url`; to end a Redis take `own_redis_server`."""
    session_redis.flush()
    return session_redis


@pytest.fixture
def own_redis_server() -> Iterator[Callable[..., RedisServer]]:
    """A factory of running servers for one test, which may kill them. It takes the arguments of `RedisServer`."""
    with ExitStack() as stack:

        def start(*, appendonly: bool = False, password: str = "", users: str = "") -> RedisServer:
            return stack.enter_context(RedisServer(appendonly=appendonly, password=password, users=users))

        yield start


@pytest.fixture(scope="session")
def session_s3() -> Iterator[S3Server]:
    """The S3 server of this session (under pytest-xdist: of this worker)."""
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_server(session_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The session's S3 server, emptied. The environment of the test leads to it."""
    session_s3.empty()
    open_bucket.cache_clear()
    for name, value in session_s3.environment.items():
        monkeypatch.setenv(name, value)
    return session_s3


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The URL of a maintenance database on the session's PostgreSQL."""
    if url := os.environ.get(DATABASE_URL):
        yield url
        return
    with PostgresServer() as server:
        yield server.url


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_server_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new PostgreSQL database, which has tables if a fixture of `UPGRADING` will upgrade it."""
    filled = UPGRADING.intersection(request.fixturenames)
    url = create_database(postgres_server_url, *([postgres_template(postgres_server_url)] if filled else []))
    yield url
    drop_database(postgres_server_url, url)


@pytest.fixture(scope="session")
def pgvector_server_url() -> Iterator[str]:
    """The URL of a maintenance database on a PostgreSQL that has the extension pgvector, whatever the session's has."""
    with PostgresServer(find_pgvector()) as server:
        yield server.url


@pytest.fixture
def pgvector_url(pgvector_server_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty PostgreSQL database that may create the extension pgvector."""
    url = create_database(pgvector_server_url)
    yield url
    drop_database(pgvector_server_url, url)


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file that does not exist, but if a fixture of `UPGRADING` will upgrade it."""
    file = tmp_path / "tagmill.db"
    if UPGRADING.intersection(request.fixturenames):
        file.write_bytes(sqlite_file())
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of a new database; a test that takes it runs once on each backend."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))

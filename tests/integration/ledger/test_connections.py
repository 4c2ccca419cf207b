"""Connections to the database: drivers, silent workers, the pool, and outages."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from sqlalchemy import Connection, Engine, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool
from support.ledger import QUEUE, digest
from support.processes import tagmill, wait_until

from tagmill.broker.app import make_app
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import WORKER, connect, reading, terminate_silent
from tagmill.db.migrate import upgrade
from tagmill.db.outages.outage import is_outage
from tagmill.db.schema import batch, image_content, reaper
from tagmill.errors import ConfigurationError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.batches.reaper import acquire_reaper_lock
from tagmill.ledger.runs.create import create_run
from tagmill.records import Entry
from tagmill.registry.models import register
from tagmill.settings import Settings
from tagmill.tasks.classify import CLASSIFY
from worker.connections.availability import Services
from worker.heartbeat import Heartbeat
from worker.reaping import reaper_threads


def test_a_sqlite_url_with_another_driver_opens_the_same_file(sqlite_url: str) -> None:
    other = sqlite_url.replace("sqlite://", "sqlite+aiosqlite://")
    tagmill("db", "upgrade", "--db", other)
    tagmill("db", "check", "--db", sqlite_url)


def test_an_invalid_parameter_of_a_sqlite_url_is_refused(sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database URL: a parameter behind its `.` does not fit"):
        connect(f"{sqlite_url}?timeout=soon")


@pytest.mark.parametrize("name", [None, "shop", "x" * 80], ids=["unnamed", "named", "long"])
def test_silent_transactions_of_workers_are_ended_and_those_of_producers_never(
    postgres_url: str, name: str | None
) -> None:
    named = make_url(postgres_url).update_query_dict({"application_name": name} if name else {})
    url = named.render_as_string(hide_password=False)
    worker, producer = connect(url, worker=True), connect(url)
    with worker.connect() as frozen, producer.connect() as slow:
        for connection in (frozen, slow):
            connection.execute(text("SELECT 1"))
        time.sleep(0.5)
        # The reaper runs in a worker or, for `tagmill tag`, in the producer's own process.
        assert terminate_silent(producer, seconds=0.3) == 1
        assert terminate_silent(worker, seconds=0.3) == 0
        assert slow.execute(text("SHOW application_name")).scalar_one() == (name or "")[:63]
        with pytest.raises(OperationalError):
            frozen.execute(text("SELECT 1"))
        frozen.invalidate()
    with worker.connect() as again:
        assert again.execute(text("SHOW application_name")).scalar_one() == f"{WORKER} {name or ''}".strip()[:63]
    worker.dispose()
    producer.dispose()


def test_leases_are_renewed_while_every_connection_of_the_pool_is_in_use(engine: Engine) -> None:
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)
    run = create_run(engine, "test", [Entry("key", "/pictures/1.jpg")], [model], [], 1, "tagmill")
    own = connect(engine.url.render_as_string(hide_password=False), worker=True)
    assert isinstance(own.pool, QueuePool)
    heartbeat = Heartbeat(own, 1.0, Services())
    with ExitStack() as held:
        for _ in range(own.pool.size() + own.pool._max_overflow):
            held.enter_context(reading(own)).execute(text("SELECT 1"))
        assert leases.claim(engine, run, 1, "tagmill", Lease("worker:1", 1.0, max_attempts=3))
        claimed = lease_until(engine)
        with heartbeat.holding("worker:1"):
            wait_until(lambda: lease_until(engine) > claimed + 1.0, 60, "the lease to be renewed for its whole length")
    heartbeat.stop()
    own.dispose()


def lease_until(engine: Engine) -> float:
    with engine.connect() as connection:
        return float(connection.execute(select(batch.c.lease_until)).scalar_one())


def test_a_frozen_worker_that_holds_a_lock_does_not_block_the_others(postgres_url: str) -> None:
    frozen, other = (connect(postgres_url, worker=True) for _ in range(2))
    upgrade(other)
    settings = Settings(lease_seconds=1, reap_seconds=0.2)
    with frozen.connect() as connection, ExitStack() as threads:
        assert acquire_reaper_lock(other, QUEUE, 0.0)
        connection.execute(update(reaper).values(next_look=0.0))  # and then it is silent
        for thread in reaper_threads(make_app(settings), other, settings, Services()):
            thread.start()  # one of them waits for the lock
            threads.callback(thread.stop)
        wait_until(lambda: not locked(other), 60, "the lock to be free")
        with pytest.raises(DBAPIError) as caught:
            connection.execute(select(reaper))
        connection.invalidate()
    assert is_outage(caught.value)
    frozen.dispose()
    other.dispose()


@contextmanager
def frozen_worker(url: str) -> Iterator[tuple[Engine, Connection, psycopg.Connection]]:
    """Yield the engine of another worker, and the frozen worker's connection in SQLAlchemy and in psycopg."""
    frozen, other = (connect(url, worker=True) for _ in range(2))
    upgrade(other)
    assert acquire_reaper_lock(other, QUEUE, 0.0)
    with frozen.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        yield other, connection, raw
        connection.invalidate()
    frozen.dispose()
    other.dispose()


def test_the_connection_of_a_worker_that_froze_inside_a_pipeline_is_ended(postgres_url: str) -> None:
    with frozen_worker(postgres_url) as (other, _, raw):
        raw.pgconn.enter_pipeline_mode()
        raw.pgconn.send_query_params(b"UPDATE reaper SET next_look = 0", None)
        raw.pgconn.send_flush_request()
        raw.pgconn.flush()  # the statement runs; the Sync that ends it does not come
        wait_until(lambda: locked(other), 60, "the statement to run")
        assert terminate_silent(other, 60) == 0
        time.sleep(0.5)
        assert terminate_silent(other, 0.3) == 1
        assert acquire_reaper_lock(other, QUEUE, 60.0)


def test_the_connection_of_a_worker_that_froze_inside_a_copy_is_ended(postgres_url: str) -> None:
    with frozen_worker(postgres_url) as (other, connection, raw):
        connection.execute(update(reaper).values(next_look=0.0))
        raw.pgconn.exec_(b"COPY known_file FROM STDIN")  # and no row comes
        time.sleep(0.5)
        assert locked(other)
        assert terminate_silent(other, 0.3) == 1
        assert acquire_reaper_lock(other, QUEUE, 60.0)


def locked(engine: Engine) -> bool:
    """Return whether a transaction holds a lock on the reaper's row."""
    with engine.begin() as connection:
        return not connection.execute(select(reaper).with_for_update(skip_locked=True)).all()


def test_a_full_database_is_an_outage_and_a_wrong_statement_is_not(sqlite_url: str) -> None:
    engine = connect(sqlite_url)
    upgrade(engine)
    with engine.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        facts = {"width": 1, "height": 1, "format": "PNG", "bytes": 1}
        rows = [{"sha256": digest(number), **facts} for number in range(9_999)]
        with pytest.raises(OperationalError, match="full") as full:
            connection.execute(insert(image_content), rows)
        with pytest.raises(OperationalError, match="no such table") as wrong:
            connection.exec_driver_sql("SELECT 1 FROM nowhere")
    assert (is_outage(full.value), is_outage(wrong.value)) == (True, False)
    engine.dispose()

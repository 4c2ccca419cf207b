"""Connections to the database: which driver, one upgrade at a time, which are ended, and how many there are."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool
from support.processes import TAGMILL, environment, tagmill

from tagmill.bundles.spec import BundleSpec
from tagmill.db.connection import WORKER, connect, reading, terminate_silent
from tagmill.db.migrate import newest_version, open_database, upgrade
from tagmill.errors import ConfigurationError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger import leases
from tagmill.ledger.leases import Lease
from tagmill.ledger.reaper import requeue_expired
from tagmill.ledger.runs import create_run
from tagmill.records import Entry
from tagmill.registry.models import register
from tagmill.tasks.classify import CLASSIFY
from worker.connections.availability import Services
from worker.heartbeat import Heartbeat


def test_of_several_upgrades_at_once_one_does_it_and_all_succeed(postgres_url: str) -> None:
    env = environment(database_url=postgres_url)
    commands = [
        subprocess.Popen([TAGMILL, "db", "upgrade"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(5)
    ]
    said = [command.communicate(timeout=120)[0].decode() for command in commands]
    assert [command.returncode for command in commands] == [0] * 5, said
    assert all(line.endswith(f"is at schema {newest_version()}\n") for line in said)


def test_an_sqlite_url_that_names_another_driver_opens_the_same_file(sqlite_url: str) -> None:
    other = sqlite_url.replace("sqlite://", "sqlite+aiosqlite://")
    tagmill("db", "upgrade", "--db", other)
    tagmill("db", "check", "--db", sqlite_url)


def test_a_parameter_of_an_sqlite_url_that_does_not_fit_is_refused(sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database URL: a parameter behind its `.` does not fit"):
        connect(f"{sqlite_url}?timeout=soon")


@pytest.mark.parametrize("name", [None, "shop", "x" * 80], ids=["unnamed", "named", "long"])
def test_of_those_that_are_silent_in_a_transaction_workers_are_ended_and_producers_never(
    postgres_url: str, name: str | None
) -> None:
    named = make_url(postgres_url).update_query_dict({"application_name": name} if name else {})
    url = named.render_as_string(hide_password=False)
    worker, producer = connect(url, patience_seconds=60), connect(url)
    with worker.connect() as frozen, producer.connect() as slow:
        for connection in (frozen, slow):
            connection.execute(text("SELECT 1"))
        time.sleep(0.5)
        # A reaper is a worker's, or in an embedded run the producer's own process.
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


def test_leases_are_renewed_while_batches_hold_every_connection_of_the_pool(engine: Engine) -> None:
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)
    run = create_run(engine, "test", [Entry("key", "/pictures/1.jpg")], [model], [], 1, "tagmill")
    own = connect(engine.url.render_as_string(hide_password=False), patience_seconds=60)
    assert isinstance(own.pool, QueuePool)
    heartbeat = Heartbeat(own, 1.0, Services())
    with ExitStack() as held:
        for _ in range(own.pool.size() + own.pool._max_overflow):
            held.enter_context(reading(own)).execute(text("SELECT 1"))
        assert leases.claim(engine, run, 1, "tagmill", Lease("worker:1", 1.0, max_attempts=3))
        with heartbeat.holding("worker:1"):
            time.sleep(2)
            assert requeue_expired(engine, "tagmill") == 0
    heartbeat.stop()
    own.dispose()


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder with the database tags.db in it that the test may not write to, as on a mount that is read only."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        engine = connect(f"sqlite:///{folder / 'tags.db'}")
        upgrade(engine)
        engine.dispose()
        (folder / "tags.db").chmod(0o444)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:  # who may write everywhere
            os.seteuid(65534)
        yield folder
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_an_sqlite_file_in_a_folder_that_cannot_be_written_to_is_refused_with_the_reason(
    read_only_folder: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"its folder cannot be written to, .* copy the file to one that can"):
        open_database(f"sqlite:///{read_only_folder / 'tags.db'}")

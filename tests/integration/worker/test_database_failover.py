"""A PostgreSQL that fails over: a standby is promoted in the middle of a run, and the former primary comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from support.image_fixtures import write_folder
from support.installation import Site, new_site
from support.processes import Worker, wait_until
from support.services import PostgresServer, RedisServer
from support.standby import detach, execute, receives

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.names import ids_of
from tagmill.db.outages.outage import is_outage
from tagmill.db.schema import label_name
from tagmill.settings import load_settings

IMAGES = 240


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    with PostgresServer(primary=primary) as server:
        yield server


def url_of(*servers: PostgresServer) -> str:
    """Return the URL of the database `shop` on any of these servers."""
    return "postgresql://postgres@/shop?host=" + ",".join(str(server.folder) for server in servers)


def test_a_promotion_in_the_middle_of_a_run_loses_nothing_and_the_former_primary_is_left_alone(
    primary: PostgresServer, standby: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    execute(primary, "CREATE DATABASE shop")
    site = new_site(tmp_path, url_of(primary, standby), redis_server.url)
    write_folder(site.folder / "shop", IMAGES)
    before = Site(site.env | {"TAGMILL_DATABASE_URL": url_of(primary)}, site.folder)
    after = Site(site.env | {"TAGMILL_DATABASE_URL": url_of(standby)}, site.folder)
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 1)["run"]
        detach(standby)
        wait_until(lambda: worker.log.count("batch_tagged") >= 20, 60, "results that the standby lacks")
        primary.kill()
        wait_until(lambda: "database_down" in worker.log, 60, "the worker to notice")
        standby.promote()
        primary.start()
        after.wait_done(run)
        done = before.count("SELECT count(*) FROM batch WHERE status = 'done'")
        again = site.submit(site.folder / "shop", "--model", "colors")["run"]
        after.wait_done(again)
        assert "the database system has failed over" in worker.log
        wait_until(lambda: "database_back" in worker.log, 60, "all threads of the worker to find it back")
        assert worker.log.count("database_back") == 1
        assert "Traceback" not in worker.log
        assert worker.stop() == 0
    assert before.count("SELECT count(*) FROM run") == 1
    assert before.count("SELECT count(*) FROM batch WHERE status = 'done'") == done
    assert after.count("SELECT count(*) FROM result") == IMAGES
    assert after.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == 2 * IMAGES
    assert worker.log.count("batch_tagged") > IMAGES


@pytest.fixture
def engine(primary: PostgresServer, standby: PostgresServer) -> Iterator[Engine]:
    """An engine that may use both servers, in the order in which the former primary comes first."""
    execute(primary, "CREATE DATABASE shop")
    engine = connect(load_settings(database_url=url_of(primary, standby)).database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


def host_of(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.connection.dbapi_connection.info.host)  # type: ignore[union-attr]


def test_a_process_that_meets_the_new_primary_forgets_ids_and_never_goes_back(
    primary: PostgresServer, standby: PostgresServer, engine: Engine
) -> None:
    wait_until(lambda: receives(standby), 60, "the standby to follow")
    assert host_of(connect(url_of(standby, primary))) == str(primary.folder)
    detach(standby)
    assert ids_of(engine, label_name)["lost"] == 1
    primary.kill()
    standby.promote()
    primary.start()  # as a primary: nobody has told it
    with pytest.raises(DBAPIError, match="failed over") as failed:
        host_of(engine)
    assert is_outage(failed.value)
    assert host_of(engine) == str(standby.folder)
    assert "lost" not in ids_of(engine, label_name)
    assert host_of(connect(url_of(primary, standby))) == str(standby.folder)
    engine.dispose()
    assert host_of(engine) == str(standby.folder)
    standby.stop()
    with pytest.raises(DBAPIError, match="is a former primary: its timeline is 1, that of the newest 2; shut") as old:
        host_of(engine)
    assert is_outage(old.value)


def test_a_server_that_became_read_only_is_left_for_one_that_is_not(
    primary: PostgresServer, standby: PostgresServer, engine: Engine
) -> None:
    assert host_of(engine) == str(primary.folder)
    execute(primary, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    standby.promote()
    wait_until(lambda: _refuses(engine), 60, "the server to be read-only")
    with pytest.raises(DBAPIError, match="failed over"):
        host_of(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO label_name (name) VALUES ('x')"))
    assert host_of(engine) == str(standby.folder)


def _refuses(engine: Engine) -> bool:
    try:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO label_name (name) VALUES ('y') ON CONFLICT DO NOTHING"))
    except DBAPIError as error:
        return is_outage(error) and error.connection_invalidated
    return False

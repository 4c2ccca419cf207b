"""Workers behind a PgBouncer in transaction mode, with two connections to the server and its default settings."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from support.image_fixtures import write_folder
from support.installation import Site, new_site
from support.pgbouncer import PgBouncerServer
from support.processes import Worker, tagmill, wait_until
from support.services import PostgresServer, RedisServer, create_database
from support.standby import detach, execute, receives

from tagmill.db.connection import WORKER, connect, terminate_silent
from tagmill.db.migrate import upgrade
from tagmill.db.names import ids_of
from tagmill.db.outages.outage import is_outage
from tagmill.db.schema import label_name

IMAGES = 240


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncerServer]:
    with PgBouncerServer(postgres, server_login_retry=1) as server:
        yield server


def through(pgbouncer: PgBouncerServer, url: str) -> str:
    """Return the URL behind PgBouncer of a database."""
    return pgbouncer.url(url.partition("?")[0].rpartition("/")[2])


def on(server: PostgresServer, url: str) -> str:
    """Return the URL on another server of a database."""
    return make_url(server.url).set(database=make_url(url).database).render_as_string()


def tagged(site: Site, worker_env: dict[str, str]) -> list[dict[str, str]]:
    """Tag the shop in batches of 4 with two models; return the results without what differs from site to site."""
    run = site.submit(site.folder / "shop", "--model", "colors", "--model", "color-masks", "--batch-size", 4)["run"]
    with Worker.bare(worker_env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        site.wait_done(run)
        assert "database_down" not in worker.log
        assert "Traceback" not in worker.log
        assert worker.stop() == 0
    dropped = {"uri", "run", "run_id"}
    return [{name: value for name, value in row.items() if name not in dropped} for row in site.rows(run)]


def test_a_catalog_is_tagged_as_without_a_pooler(
    postgres: PostgresServer, pgbouncer: PgBouncerServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    found = []
    for name, url in (
        ("direct", create_database(postgres.url)),
        ("pooled", through(pgbouncer, create_database(postgres.url))),
    ):
        write_folder(tmp_path / name / "shop", IMAGES)
        site = new_site(tmp_path / name, url, redis_server.url)
        tagmill("db", "check", env=site.env)
        found.append(tagged(site, site.env))
        assert site.count("SELECT max(attempts) FROM batch") == 1
    direct, pooled = found
    assert len(pooled) >= IMAGES
    assert pooled == direct


def test_an_outage_of_the_pooler_and_of_the_server_behind_it_is_waited_for(
    postgres: PostgresServer, pgbouncer: PgBouncerServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    site = new_site(tmp_path, through(pgbouncer, create_database(postgres.url)), redis_server.url)
    write_folder(tmp_path / "shop", IMAGES)
    with Worker(site.env, tmp_path / "worker.log") as worker:
        worker.wait_ready()
        for server in (pgbouncer, postgres):
            run = site.submit(tmp_path / "shop", "--model", "colors", "--batch-size", 4)["run"]
            downs, backs = worker.log.count("database_down"), worker.log.count("database_back")
            server.kill()
            wait_until(lambda downs=downs: worker.log.count("database_down") > downs, 60, "the worker to notice")
            time.sleep(2)
            server.start()
            wait_until(lambda backs=backs: worker.log.count("database_back") > backs, 60, "the worker to go on")
            site.wait_done(run, 120)
        assert "database_refused" not in worker.log
        assert worker.stop() == 0


def test_a_silent_worker_is_known_by_its_name_and_ended_through_the_pooler(
    postgres: PostgresServer, pgbouncer: PgBouncerServer
) -> None:
    url = through(pgbouncer, create_database(postgres.url))
    worker, producer = connect(url, worker=True), connect(url)
    with worker.connect() as frozen:
        assert frozen.execute(text("SHOW application_name")).scalar_one() == WORKER
        time.sleep(0.5)
        assert terminate_silent(producer, seconds=0.3) == 1
        frozen.invalidate()
    worker.dispose()
    producer.dispose()


def test_the_pooler_is_led_to_a_promoted_standby_in_the_middle_of_a_run(
    postgres: PostgresServer, pgbouncer: PgBouncerServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    database = create_database(postgres.url)
    site = new_site(tmp_path, through(pgbouncer, database), redis_server.url)
    write_folder(tmp_path / "shop", IMAGES)
    with PostgresServer(primary=postgres) as standby, Worker.bare(site.env, tmp_path / "worker.log") as worker:
        after = Site(site.env | {"TAGMILL_DATABASE_URL": on(standby, database)}, site.folder)
        worker.wait_ready()
        run = site.submit(tmp_path / "shop", "--model", "colors", "--batch-size", 2)["run"]
        detach(standby)
        wait_until(lambda: worker.log.count("batch_tagged") >= 20, 60, "results that the standby lacks")
        pgbouncer.lead_to(standby)  # too early: it takes no writes yet
        wait_until(lambda: "database_down" in worker.log, 60, "the worker to notice")
        postgres.kill()
        standby.promote()
        after.wait_done(run, 120)
        wait_until(lambda: "database_back" in worker.log, 60, "all threads of the worker to find it back")
        assert "the database system has failed over" in worker.log
        assert "Traceback" not in worker.log
        assert worker.stop() == 0
        assert after.count("SELECT count(*) FROM result") == IMAGES
        assert after.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == IMAGES


def test_a_transaction_that_the_pooler_held_back_is_not_run_on_the_new_primary_with_old_ids(
    postgres: PostgresServer, pgbouncer: PgBouncerServer
) -> None:
    with PostgresServer(primary=postgres) as standby:
        engine = connect(through(pgbouncer, create_database(postgres.url)))
        upgrade(engine)
        wait_until(lambda: receives(standby), 60, "the standby to follow")
        detach(standby)
        assert ids_of(engine, label_name)["lost"] == 1
        with engine.connect() as connection:
            postgres.kill()
            promotion = Timer(1, lambda: (standby.promote(), pgbouncer.lead_to(standby)))
            promotion.start()
            with pytest.raises(DBAPIError, match="failed over") as failed:
                connection.execute(text("SELECT 1"))
            promotion.join()
        assert is_outage(failed.value)
        assert "lost" not in ids_of(engine, label_name)
        engine.dispose()


@pytest.mark.parametrize("what", ["password", "database"])
def test_a_running_worker_ends_with_78_when_waiting_cannot_help(
    postgres: PostgresServer, redis_server: RedisServer, tmp_path: Path, what: str
) -> None:
    direct = create_database(postgres.url)
    name = direct.partition("?")[0].rpartition("/")[2]
    execute(postgres, "CREATE ROLE app LOGIN SUPERUSER PASSWORD 'right'")
    (postgres.folder / "data" / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    execute(postgres, "SELECT pg_reload_conf()")
    site = new_site(tmp_path, f"postgresql://app:right@/{name}?host={postgres.folder}", redis_server.url)
    write_folder(tmp_path / "shop", IMAGES)
    with Worker(site.env, tmp_path / "worker.log") as worker:
        worker.wait_ready()
        run = site.submit(tmp_path / "shop", "--model", "colors", "--batch-size", 4)["run"]
        wait_until(lambda: worker.log.count("batch_tagged") > 5, 60, "the worker to be at work")
        if what == "password":
            execute(postgres, "ALTER ROLE app PASSWORD 'new'")
            execute(postgres, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        else:
            execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")
        assert worker.process.wait(60) == 78
        assert worker.log.count('"action": "database_refused"') == 1
        assert {"password": "authentication failed", "database": "does not exist"}[what] in worker.log
        assert "batch_failed" not in worker.log
    if what == "password":
        site.env["TAGMILL_DATABASE_URL"] = site.env["TAGMILL_DATABASE_URL"].replace("right", "new")
        with Worker.bare(site.env, tmp_path / "two.log"):
            site.wait_done(run, 120)
        assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == IMAGES

"""Workers, producers and readers log in to PostgreSQL with roles of their own, which may do their work and no more."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url
from support.bundles import write_classifier, write_segmenter
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, environment, tagmill, tagmill_json
from support.services import ExternalRedis, RedisServer, libpq_url

ROLES = ("t_worker", "t_producer", "t_reader")
OPTIONS = ("--worker", "t_worker", "--producer", "t_producer", "--reader", "t_reader")


def login(url: str, role: str) -> str:
    return make_url(url).set(username=role, password="secret").render_as_string(hide_password=False)


@pytest.fixture
def owner_url(postgres_url: str) -> Iterator[str]:
    """A database of the role t_owner, who is no superuser, and the other roles without any right in it."""
    every = ("t_owner", *ROLES)
    with psycopg.connect(libpq_url(postgres_url), autocommit=True) as connection:
        for role in every:
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'".encode())
        connection.execute("GRANT pg_read_all_stats TO t_producer")
        connection.execute(f'ALTER DATABASE "{make_url(postgres_url).database}" OWNER TO t_owner'.encode())
        connection.execute("ALTER SCHEMA public OWNER TO t_owner")
        yield login(postgres_url, "t_owner")
        connection.execute(f"REASSIGN OWNED BY {', '.join(every)} TO current_user".encode())
        connection.execute(f"DROP OWNED BY {', '.join(every)}".encode())
        connection.execute(f"DROP ROLE {', '.join(every)}".encode())


def test_every_command_runs_with_its_role(
    owner_url: str, redis_server: RedisServer | ExternalRedis, tmp_path: Path
) -> None:
    quick = {"lease_seconds": 3, "reap_seconds": 0.5, "log_level": "INFO", "broker_url": redis_server.url}
    owner, worker, producer = (
        environment(database_url=login(owner_url, role), model_store=tmp_path / "models", **quick)
        for role in ("t_owner", "t_worker", "t_producer")
    )
    for _ in range(2):  # a second time changes nothing
        tagmill("db", "upgrade", *OPTIONS, env=owner)
    for bundle in (write_classifier(tmp_path / "colors.onnx"), write_segmenter(tmp_path / "masks.onnx")):
        tagmill("model", "add", bundle, env=producer)
    tagmill("model", "promote", "colors@1", env=producer)
    site = Site(producer, tmp_path)
    write_folder(tmp_path / "shop", 12)
    (tmp_path / "shop" / "00003.png").write_bytes(b"no image")
    submit = (tmp_path / "shop", "--model", "colors", "--model", "color-masks", "--batch-size", 4)
    cancelled = site.submit(*submit)["run"]
    tagmill("run", "cancel", cancelled, env=producer)
    with Worker(worker, tmp_path / "worker.log") as process:
        done = site.submit(*submit, "--wait", expect=3)
        assert done["tagged"] == 11
        tagmill("run", "retry", done["run"], "--wait", env=producer, expect=3)
        tagmill("run", "retry", cancelled, "--wait", env=producer, expect=3)
        tagmill("run", "reconcile", env=producer)
        assert process.stop() == 0
        for trouble in ("permission denied", "reaper_failed", "heartbeat_failed", "silent_connections_failed"):
            assert trouble not in process.log
    assert sum(row["status"] == "tagged" for row in site.rows(done["run"])) == 11
    assert tagmill_json("run", "status", cancelled, env=producer)["tagged"] == 11
    tagmill("drift", done["run"], "--reference", cancelled, env=producer)
    tagmill("db", "rebuild", env=owner)
    with psycopg.connect(libpq_url(login(owner_url, "t_reader"))) as connection:
        for view in ("catalog_labels", "catalog_masks", "catalog_changes", "run_image", "run_drift"):
            assert connection.execute(f"SELECT * FROM {view} LIMIT 1".encode()).fetchone(), view
    exported = tagmill("exporter", "--once", env=environment(database_url=login(owner_url, "t_reader"))).stdout
    assert "tagmill_database_up 1.0" in exported


REFUSED = {
    "t_worker": (
        "DROP TABLE result",
        "ALTER TABLE result ADD COLUMN x int",
        "TRUNCATE batch",
        "DELETE FROM result",
        "DELETE FROM run",
        "INSERT INTO model (name) VALUES ('x')",
        "UPDATE model SET name = 'x'",
        "UPDATE alembic_version SET version_num = '0001'",
        "CREATE TABLE mine (id int)",
        "COPY result TO PROGRAM 'cat'",
    ),
    "t_producer": ("DROP TABLE run", "DELETE FROM run", "UPDATE result SET score_1 = 1", "DELETE FROM catalog_entry"),
    "t_reader": (
        "UPDATE batch SET status = 'done'",
        "SELECT * FROM entry",
        "SELECT * FROM model",
        "SELECT * FROM tagged_entry",
        "DELETE FROM catalog_entry",
        "CREATE TABLE mine (id int)",
    ),
}


def test_what_a_role_has_no_business_with_is_refused(owner_url: str) -> None:
    # As an administrator does once on PostgreSQL 14 and older, where everybody may create tables.
    with psycopg.connect(libpq_url(owner_url), autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    tagmill("db", "upgrade", *OPTIONS, env=environment(database_url=owner_url))
    for role, statements in REFUSED.items():
        with psycopg.connect(libpq_url(login(owner_url, role)), autocommit=True) as connection:
            for statement in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())


def test_a_role_without_its_rights_is_told_what_to_do(owner_url: str) -> None:
    tagmill("db", "upgrade", env=environment(database_url=owner_url))
    env = environment(database_url=login(owner_url, "t_worker"))
    (line,) = tagmill("run", "list", env=env, expect=78).stderr.splitlines()
    assert line.startswith("error: the database refuses a statement (permission denied for table alembic_version); ")
    (line,) = tagmill(
        "db", "upgrade", "--worker", "nobody", env=environment(database_url=owner_url), expect=78
    ).stderr.splitlines()
    assert line == "error: no role nobody; create it: CREATE ROLE nobody LOGIN PASSWORD '...'"


def test_sqlite_has_no_roles(sqlite_url: str) -> None:
    assert (
        "SQLite has no roles"
        in tagmill("db", "upgrade", *OPTIONS, env=environment(database_url=sqlite_url), expect=78).stderr
    )

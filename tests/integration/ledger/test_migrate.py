"""Migrations of the schema, on SQLite and PostgreSQL, and databases at another version."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Engine, select, update
from support.ledger import QUEUE, batches, fail, new_model, new_run, result_for, take
from support.processes import TAGMILL, environment

from tagmill.db import schema
from tagmill.db.connection import connect
from tagmill.db.migrate import newest_version, open_database, require_schema, schema_version, upgrade
from tagmill.db.schema import batch_failure, metadata, run_image
from tagmill.errors import ConfigurationError
from tagmill.ledger.complete import complete
from tagmill.ledger.progress import run_progress
from tagmill.ledger.reaper import mark_dead
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Outcome
from tagmill.registry.models import Model


def migrate(engine: Engine, revision: str, direction: str) -> None:
    """Upgrade or downgrade a database to a revision."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


def test_the_migrations_create_the_tables_of_the_code(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    heads = ScriptDirectory(Path(schema.__file__).parent / "migrations").get_heads()
    assert [schema_version(engine), newest_version()] == heads * 2


def test_an_upgrade_fills_in_the_counts_of_older_runs(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=5, batch_size=2)
    first, second, _ = batches(engine, run_id)
    claimed = take(engine, first)
    assert claimed is not None
    result = result_for(claimed)
    outcomes = [*result.outcomes[:1], Outcome(1, error_code=ErrorCode.TRUNCATED)]
    assert complete(engine, claimed, replace(result, outcomes=outcomes), "worker")
    for attempt in range(3):
        fail(engine, second, f"worker-{attempt}")
    assert mark_dead(engine, QUEUE, max_attempts=3) == 1
    before = replace(run_progress(engine, run_id), read_at=0.0)
    assert (before.images, before.tagged, before.inferences) == (5, 1, 1)
    assert before.failures == {"batch_dead": 2, "truncated": 1}
    migrate(engine, "0002", "downgrade")
    upgrade(engine)
    assert replace(run_progress(engine, run_id), read_at=0.0) == before


def test_an_upgrade_renames_the_code_fetch_404_to_not_found(database_url: str) -> None:
    engine = connect(database_url)
    migrate(engine, "0003", "upgrade")
    claimed = take(engine, batches(engine, new_run(engine, new_model(engine)))[0])
    assert claimed is not None
    codes = (ErrorCode.NOT_FOUND, ErrorCode.NOT_FOUND, ErrorCode.TRUNCATED)
    outcomes = [Outcome(position, error_code=code) for position, code in enumerate(codes)]
    assert complete(engine, claimed, BatchResult(outcomes, [], []), "worker")
    with engine.begin() as connection:
        for table in (run_image, batch_failure):
            old = update(table).where(table.c.error_code == "not_found").values(error_code="fetch_404")
            assert connection.execute(old).rowcount > 0
    upgrade(engine)
    with engine.connect() as connection:
        images = connection.execute(select(run_image.c.error_code).order_by(run_image.c.position)).scalars().all()
        failures = connection.execute(select(batch_failure.c.error_code, batch_failure.c.images)).all()
    assert images == ["not_found", "not_found", "truncated"]
    assert sorted(failures) == [("not_found", 2), ("truncated", 1)]
    engine.dispose()


def test_several_upgrades_at_once_all_succeed(postgres_url: str) -> None:
    env = environment(database_url=postgres_url)
    commands = [
        subprocess.Popen([TAGMILL, "db", "upgrade"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(5)
    ]
    said = [command.communicate(timeout=120)[0].decode() for command in commands]
    assert [command.returncode for command in commands] == [0] * 5, said
    assert all(line.endswith(f"is at schema {newest_version()}\n") for line in said)


def test_an_empty_database_is_refused_with_the_command_to_run(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(ConfigurationError, match="tagmill db upgrade"):
        require_schema(engine)
    engine.dispose()


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder with the database tags.db that the test may not write to, as on a read-only mount."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        engine = connect(f"sqlite:///{folder / 'tags.db'}")
        upgrade(engine)
        engine.dispose()
        (folder / "tags.db").chmod(0o444)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:  # root may write everywhere
            os.seteuid(65534)
        yield folder
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_sqlite_file_in_a_read_only_folder_is_refused_with_the_reason(
    read_only_folder: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"its folder cannot be written to, .* copy the file to one that can"):
        open_database(f"sqlite:///{read_only_folder / 'tags.db'}")

"""Migrations of the schema, on SQLite and PostgreSQL, and databases at another version."""

import json
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from support.ledger import batches, new_model, new_run, published_run, result_for, take
from support.processes import TAGMILL, environment, tagmill, wait_until
from support.services import create_database, drop_database
from support.version_0004 import Version0004, fill, migrate, state

from tagmill.db import migrate as migrate_module
from tagmill.db import schema
from tagmill.db.connection import connect, reading
from tagmill.db.migrate import newest_version, open_database, require_schema, schema_version, upgrade
from tagmill.db.migrations.compact.prepare import Pace, Progress
from tagmill.db.schema import metadata
from tagmill.db.views.audit import AUDIT_VIEWS
from tagmill.db.views.create import create_statements
from tagmill.db.views.pictures import PICTURE_VIEWS
from tagmill.db.views.runs import RUN_VIEWS
from tagmill.db.views.shown import SHOWN_VIEWS
from tagmill.errors import ConfigurationError, DatabaseRefusedError
from tagmill.ledger import catalog
from tagmill.ledger.batches.reaper import abandoned_runs
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.progress import run_progress
from tagmill.ledger.runs.publishing import take_unpublished
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Outcome

SMALL = Pace(rows=3, pause=0)


def ignore(progress: Progress) -> None:
    """Do not report."""


@pytest.fixture
def old_engine(database_url: str) -> Iterator[Engine]:
    """An engine on a new database of schema 0004; a test with this fixture runs once per backend."""
    engine = connect(database_url)
    migrate(engine, "0004")
    yield engine
    engine.dispose()


def state_of(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return state(connection)


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names and values of facts in facts, as text: conditions compare by what they say."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def tables_of(engine: Engine) -> dict[str, Any]:
    """Return columns, keys, indexes and constraints of all tables, with their names."""
    found = inspect(engine)
    tables = {}
    for name in found.get_table_names():
        columns = [column | {"type": repr(column["type"])} for column in found.get_columns(name)]
        tables[name] = {
            "columns": columns,
            "primary key": found.get_pk_constraint(name),
            "foreign keys": sorted(map(repr, found.get_foreign_keys(name))),
            "unique": sorted(map(repr, found.get_unique_constraints(name))),
            "indexes": sorted(str(sorted(map(str, flat(index)))) for index in found.get_indexes(name)),
            "checks": sorted(map(repr, found.get_check_constraints(name))),
        }
    return tables


def test_the_migrations_create_the_tables_of_the_code(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    heads = ScriptDirectory(Path(schema.__file__).parent / "migrations").get_heads()
    assert [schema_version(engine), newest_version()] == heads * 2


@pytest.fixture
def created(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A database whose tables the code created, without any migration, beside that of `engine`."""
    if engine.dialect.name == "sqlite":
        created = connect(f"sqlite:///{tmp_path / 'created.db'}")
        metadata.create_all(created)
        yield created
        created.dispose()
        return
    server = request.getfixturevalue("postgres_server_url")
    url = create_database(server)
    created = connect(url)
    metadata.create_all(created)
    yield created
    created.dispose()
    drop_database(server, url)


def test_a_migrated_database_has_the_same_tables_as_a_new_one(
    engine: Engine, created: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    expected = tables_of(created)
    new = tables_of(engine)
    new.pop("alembic_version")
    assert new == expected
    metadata.drop_all(created)
    migrate(created, "0004")
    fill(created)
    upgrade(created)
    migrated = tables_of(created)
    migrated.pop("alembic_version")
    assert migrated == expected
    if created.dialect.name == "postgresql":
        # No function, sequence or trigger of the upgrade is left.
        with created.connect() as connection:
            for name, table in (("relname", "pg_class"), ("proname", "pg_proc"), ("tgname", "pg_trigger")):
                left = text(f"SELECT {name} FROM {table} WHERE strpos({name}, 'upgrade_') = 1")
                assert connection.execute(left).all() == []


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
def test_an_upgrade_keeps_everything_that_older_databases_say(old_engine: Engine, revision: str) -> None:
    fill(old_engine)
    before = state_of(old_engine)
    if revision != "0004":
        migrate(old_engine, max(revision, "0002"), "downgrade")
    if revision == "0001":
        with old_engine.begin() as connection:
            for change in (
                *("DROP TABLE file_seen", "DROP TABLE reaper", "ALTER TABLE batch DROP COLUMN crashes"),
                "UPDATE alembic_version SET version_num = '0001'",
            ):
                connection.execute(text(change))
        before["files"] = []
    upgrade(old_engine)
    assert state_of(old_engine) == before
    assert all(before[name] for name in before if (name, revision) != ("files", "0001"))


def test_tagmill_results_prints_the_same_after_an_upgrade(old_engine: Engine) -> None:
    fill(old_engine)
    with old_engine.connect() as connection:
        before, labels = (state(connection)[name] for name in ("entries", "labels"))
        sizes = {sha256: (width, height) for sha256, width, height, *_ in state(connection)["images"]}
    upgrade(old_engine)
    model = "1" * 64
    env = environment(database_url=old_engine.url.render_as_string(hide_password=False))
    printed = tagmill("results", 4, "--format", "jsonl", env=env)
    found = [json.loads(line) for line in printed.stdout.splitlines()]
    assert len(found) == 7
    for image, row in zip(found, (row for row in before if row[0] == 4), strict=True):
        facts = ("image_key", "uri", "sha256", "status", "error_code", "error_detail")
        assert tuple(image[name] for name in facts) == row[2:]
        assert (image["width"], image["height"]) == sizes.get(row[4], (None, None))
        mine = [found for found in labels if found[:2] == (row[4], model)]
        expected = [{"label": label, "score": score} for *_, label, score in mine]
        assert image["models"].get("shirts", {}).get("labels", []) == expected


def test_an_upgraded_database_goes_on_with_the_runs_of_the_old_version(old_engine: Engine) -> None:
    old = fill(old_engine)
    unpublished = old.submit(["new-1", "new-2"], ["shirts@1"], publish=False)
    upgrade(old_engine)
    assert unpublished in abandoned_runs(old_engine, "tagmill")
    assert [run for run, _ in take_unpublished(old_engine, unpublished)] == [unpublished]
    with old_engine.begin() as connection:
        shown = connection.execute(text("SELECT * FROM catalog_entry ORDER BY image_key, name_id, place")).all()
    assert shown
    catalog.rebuild(old_engine)
    with old_engine.begin() as connection:
        rebuilt = connection.execute(text("SELECT * FROM catalog_entry ORDER BY image_key, name_id, place")).all()
        # New ids come behind those of the old version.
        for table in ("run", "batch", "model"):
            last = connection.execute(text(f"SELECT max(id) FROM {table}")).scalar_one()
            if old_engine.dialect.name == "postgresql":
                assert connection.execute(text(f"SELECT nextval('{table}_id_seq')")).scalar_one() == last + 1
    assert rebuilt == shown


def test_an_upgraded_database_takes_codes_that_the_old_version_did_not_know(old_engine: Engine) -> None:
    fill(old_engine)
    upgrade(old_engine)
    claimed = take(old_engine, batches(old_engine, new_run(old_engine, new_model(old_engine)))[0])
    assert claimed is not None
    outcomes = [
        Outcome(entry.position, error_code=ErrorCode.UNSUPPORTED_FORMAT, error_detail="AVIF")
        for entry in claimed.images
    ]
    assert complete(old_engine, claimed, BatchResult(outcomes, [], []), "worker")
    assert run_progress(old_engine, claimed.run_id).failures == {"unsupported_format": len(outcomes)}


class _Stop(Exception):
    """The upgrade is interrupted here."""


def interrupt_at_commit(engine: Engine, number: int) -> Any:
    """Let the commit of this number fail, so that its transaction is rolled back; return what `event.remove` takes."""
    commits = 0

    def stop(connection: Connection) -> None:
        nonlocal commits
        commits += 1
        if commits == number:
            raise _Stop

    event.listen(engine, "commit", stop)
    return (engine, "commit", stop)


def test_an_upgrade_that_is_interrupted_in_every_chunk_continues_and_the_old_version_works_meanwhile(
    old_engine: Engine,
) -> None:
    fill(old_engine)
    # The old version uses another engine, whose commits do not fail.
    other = connect(old_engine.url.render_as_string(hide_password=False))
    old, attempts = Version0004(other, seed=1), 0
    before: dict[str, Any] = {}
    while schema_version(old_engine) == "0004":
        attempts += 1
        if attempts in (1, 10, 20, 30):
            run = old.submit([f"sku-{attempts}", "sku-1", "bad-1"], ["shirts@2"], batch_size=2)
            old.work(run)
            old.retry(run)
        before = state_of(other)
        assert before["catalog_labels"]
        # Most attempts get one chunk further: their second commit fails. A few get through what has no mark.
        hook = interrupt_at_commit(old_engine, 2 if attempts % 25 else 2 * attempts)
        try:
            upgrade(old_engine, ignore, Pace(rows=6, pause=0))
        except _Stop:
            pass
        finally:
            event.remove(*hook)
    assert attempts >= 25
    assert state_of(old_engine) == before
    other.dispose()


@pytest.mark.parametrize("seed", [0, 1])
def test_an_upgrade_that_is_killed_again_and_again_loses_nothing(old_engine: Engine, seed: int) -> None:
    fill(old_engine)
    old, drawn = Version0004(old_engine), random.Random(seed)
    old.work(old.submit([f"more-{number}" for number in range(150)], ["shirts@1", "shapes@1"], batch_size=5))
    before = state_of(old_engine)
    url = old_engine.url.render_as_string(hide_password=False)
    script = (
        "import sys; from tagmill.db.connection import connect; from tagmill.db.migrate import upgrade\n"
        "from tagmill.db.migrations.compact.prepare import Pace\n"
        f"upgrade(connect({url!r}), lambda progress: print('chunk', flush=True), Pace(rows=10, pause=0.01))"
    )
    for _ in range(6):
        command = [str(Path(TAGMILL).with_name("python")), "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(drawn.uniform(0, 0.15))
            process.kill()
        if schema_version(old_engine) == "0004":
            assert state_of(old_engine) == before
    upgrade(old_engine)
    assert state_of(old_engine) == before


@dataclass
class _Upgrading:
    """What the threads of the old version and the upgrade tell each other."""

    #: the upgrade has locked the old tables
    locked: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)
    #: runs that were published or cancelled by statements that may have waited for the upgrade: those fit both schemas
    late: set[int] = field(default_factory=set)


def _work_until_refused(url: str, seed: int, upgrading: _Upgrading) -> None:
    """Do what workers and commands of the old version do until the database refuses, as after the upgrade."""

    def note(run: int) -> None:
        if upgrading.locked.is_set():
            upgrading.late.add(run)

    engine, drawn = connect(url), random.Random(seed)
    old = Version0004(engine, seed)
    mine: list[int] = []
    try:
        while not upgrading.stop.is_set():
            keys = [f"{drawn.choice(['sku', 'bad', f'w{seed}'])}-{drawn.randrange(40)}-{at}" for at in range(7)]
            run = old.submit(keys, drawn.sample(["shirts@1", "shirts@2", "shapes@1"], drawn.choice([1, 2, 3])))
            note(run)
            mine.append(run)
            for batch in old.batches(run):
                time.sleep(0.1)  # a batch of real images takes longer
                token = f"{seed}-{batch}"
                found = old.claim(batch, token)
                if found is None:
                    continue
                old.renew(token)
                outcome = drawn.random()
                if outcome < 0.7:
                    good = {at: "!corrupt" if key.startswith("bad") else key[:5] for at, key in found}
                    assert old.complete(batch, token, good)
                elif outcome < 0.85:
                    old.release(batch, token)
                    if drawn.random() < 0.5:
                        old.mark_dead(batch)
            if drawn.random() < 0.3:
                run = drawn.choice(mine)
                old.cancel(run)
                note(run)
            if drawn.random() < 0.5:
                old.retry(drawn.choice(mine), queue=drawn.choice(["tagmill", "other"]))
    except DBAPIError:
        pass
    except BaseException as error:
        upgrading.errors.append(error)
    finally:
        engine.dispose()


def test_workers_of_the_old_version_lose_nothing_while_the_upgrade_copies(
    old_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fill(old_engine)
    old.work(old.submit([f"more-{number}" for number in range(90)], ["shirts@1", "shapes@1"], batch_size=5))
    seen: list[dict[str, Any]] = []
    upgrading = _Upgrading()
    drop_views = migrate_module.drop_views

    def note_then_drop(connection: Connection) -> None:
        """Note what the old tables say once they are locked."""
        upgrading.locked.set()
        seen.append(state(connection))
        drop_views(connection)

    monkeypatch.setattr(migrate_module, "drop_views", note_then_drop)
    url = old_engine.url.render_as_string(hide_password=False)
    writers = [threading.Thread(target=_work_until_refused, args=(url, seed, upgrading)) for seed in range(3)]
    for writer in writers:
        writer.start()
    chunks: list[Progress] = []

    def runs() -> int:
        with old_engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM run")).scalar_one())

    before = runs()

    def report(progress: Progress) -> None:
        if not chunks:
            wait_until(lambda: runs() > before, 60, "the writers to write meanwhile")
        chunks.append(progress)
        time.sleep(0.02)

    try:
        upgrade(old_engine, report, Pace(rows=100, pause=0.02))
    finally:
        upgrading.stop.set()
        for writer in writers:
            writer.join()
    assert upgrading.errors == []
    assert len(chunks) > 10
    assert len(seen[-1]["runs"]) > 11, "the writers wrote meanwhile"
    after = state_of(old_engine)
    # A heartbeat or a release that waited for the upgrade changes the row of its batch after it.
    held = {row[0] for row in seen[-1]["batches"] if row[3] == "running"}
    for found in (after, seen[-1]):
        for name, of_run in (("batches", 1), ("runs", 0)):
            found[name] = [row[:2] if row[of_run] in upgrading.late else row for row in found[name]]
        found["batches"] = [row[:1] if row[0] in held else row for row in found["batches"]]
    assert after == seen[-1]
    with old_engine.connect() as connection:
        shown = connection.execute(text("SELECT * FROM catalog_entry ORDER BY image_key, name_id, place")).all()
    catalog.rebuild(old_engine)
    with old_engine.connect() as connection:
        rebuilt = connection.execute(text("SELECT * FROM catalog_entry ORDER BY image_key, name_id, place")).all()
    assert shown == rebuilt


def test_rows_that_somebody_deletes_while_the_upgrade_copies_stay_deleted(old_engine: Engine) -> None:
    fill(old_engine)
    deleted = "DELETE FROM run_image WHERE run_id = 1 AND status = 'tagged' AND position > 3"

    def report(progress: Progress) -> None:
        if progress.stage == "catalog":
            with old_engine.begin() as connection:
                connection.execute(text(deleted))

    upgrade(old_engine, report, SMALL)
    with old_engine.connect() as connection:
        kept = connection.execute(text("SELECT position FROM run_image WHERE run_id = 1 ORDER BY 1")).scalars().all()
        tagged = (
            connection.execute(text("SELECT position FROM tagged_entry WHERE run_id = 1 ORDER BY 1")).scalars().all()
        )
    assert kept == tagged == [0, 1, 2, 3]


def test_several_upgrades_of_a_filled_database_at_once_all_succeed(old_engine: Engine) -> None:
    old = fill(old_engine)
    old.work(old.submit([f"more-{number}" for number in range(60)], ["shirts@1"], batch_size=5))
    before, url = state_of(old_engine), old_engine.url.render_as_string(hide_password=False)
    failures: list[BaseException] = []

    def run() -> None:
        engine = connect(url)
        try:
            upgrade(engine, ignore, Pace(rows=7, pause=0.01))
        except BaseException as error:
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert state_of(old_engine) == before


def test_several_upgrades_at_once_all_succeed(postgres_url: str) -> None:
    env = environment(database_url=postgres_url)
    commands = [
        subprocess.Popen([TAGMILL, "db", "upgrade"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(5)
    ]
    said = [command.communicate(timeout=120)[0].decode() for command in commands]
    assert [command.returncode for command in commands] == [0] * 5, said
    assert all(line.endswith(f"is at schema {newest_version()}\n") for line in said)


def test_an_upgrade_waits_for_a_transaction_that_reads_and_says_so(postgres_url: str) -> None:
    engine = connect(postgres_url)
    migrate(engine, "0004")
    fill(engine)
    before = state_of(engine)
    reading = engine.connect()
    reading.execute(text("SELECT count(*) FROM catalog_labels"))
    said: list[str] = []

    def report(progress: Progress) -> None:
        said.append(progress.stage)
        if progress.stage.startswith("waiting"):
            Version0004(engine).renew("nobody")  # writers are not kept waiting
            reading.close()

    upgrade(engine, report)
    assert said[-1] == "waiting for transactions that use the tables"
    assert state_of(engine) == before
    engine.dispose()


def test_a_reader_of_the_views_keeps_its_rights_through_an_upgrade(postgres_url: str) -> None:
    engine = connect(postgres_url)
    migrate(engine, "0004")
    fill(engine)
    role = f"shop_{os.getpid()}"
    try:
        with engine.begin() as connection:
            connection.execute(text(f'CREATE ROLE "{role}" LOGIN'))
            connection.execute(text(f'GRANT SELECT ON catalog_labels TO "{role}" WITH GRANT OPTION'))
            connection.execute(text(f'GRANT SELECT (image_key, rle) ON catalog_masks TO "{role}"'))
            connection.execute(text("GRANT SELECT ON batch TO PUBLIC"))
        shop = connect(engine.url.set(username=role).render_as_string(hide_password=False))
        wanted = (
            "SELECT * FROM catalog_labels",
            "SELECT image_key, rle FROM catalog_masks",
            "SELECT status FROM batch",
        )
        with shop.connect() as connection:
            before = [sorted(map(tuple, connection.execute(text(statement)))) for statement in wanted]
        shop.dispose()
        upgrade(engine)
        with shop.connect() as connection:
            assert [sorted(map(tuple, connection.execute(text(statement)))) for statement in wanted] == before
            connection.execute(text("GRANT SELECT ON catalog_labels TO PUBLIC"))
            with pytest.raises(DatabaseRefusedError, match="permission denied"):
                connection.execute(text("SELECT score FROM catalog_masks"))
        shop.dispose()
    finally:
        with engine.begin() as connection:
            connection.execute(text(f'DROP OWNED BY "{role}"'))
            connection.execute(text(f'DROP ROLE "{role}"'))
        engine.dispose()


def test_an_upgrade_is_refused_while_another_view_uses_what_it_replaces(old_engine: Engine) -> None:
    with old_engine.begin() as connection:
        connection.execute(text("CREATE VIEW hats AS SELECT image_key FROM catalog_labels WHERE label = 'hat'"))
    with pytest.raises(ConfigurationError, match=r"replaces tables or views that hats uses; drop it, upgrade"):
        upgrade(old_engine)
    assert schema_version(old_engine) == "0004"
    with old_engine.begin() as connection:
        connection.execute(text("DROP VIEW hats"))
    upgrade(old_engine)


def test_alembic_alone_migrates_what_an_upgrade_has_begun(old_engine: Engine) -> None:
    fill(old_engine)
    before = state_of(old_engine)
    hook = interrupt_at_commit(old_engine, 9)
    with pytest.raises(_Stop):
        upgrade(old_engine, ignore, SMALL)
    event.remove(*hook)
    migrate(old_engine, "head")
    with old_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM entry")).scalar_one() == len(before["entries"])
    assert len(before["entries"]) > 50


def test_there_is_no_downgrade(engine: Engine) -> None:
    with pytest.raises(NotImplementedError, match="restore the backup"):
        migrate(engine, "0004", "downgrade")


def test_an_empty_database_is_refused_with_the_command_to_run(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(ConfigurationError, match="tagmill db upgrade"):
        require_schema(engine)
    engine.dispose()


def test_the_command_rebuilds_the_catalog(old_engine: Engine) -> None:
    fill(old_engine)
    upgrade(old_engine)
    before, url = state_of(old_engine), old_engine.url.render_as_string(hide_password=False)
    with old_engine.begin() as connection:
        rows = connection.execute(text("SELECT count(*) FROM catalog_entry")).scalar_one()
        connection.execute(text("DELETE FROM catalog_entry WHERE position = 2"))
    assert tagmill("db", "rebuild", "--db", url).stdout == f"the catalog has {rows} rows\n"
    assert state_of(old_engine) == before


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


def back_to_0006(connection: Connection) -> None:
    """Take from the schema what 0007 to 0009 added."""
    added = ("run_image", "catalog_embeddings", "catalog_duplicates", "run_duplicates")
    shown = ("catalog_changes", "catalog_masks", "catalog_labels")
    for view in (*PICTURE_VIEWS, *RUN_VIEWS, *AUDIT_VIEWS, *added, *shown, *SHOWN_VIEWS):
        connection.execute(text(f"DROP VIEW {view}"))
    for table in (
        "rollout",
        "shown_instead",
        "canary_entry",
        "audit_event",
        "worker_state",
        "image_pruning",
        "known_url",
        "repeated_image",
        "repeated_entry",
        "embedding",
        "activation_map",
        "duplicate_image",
        "picture",
        "picture_attribute",
        "picture_rule",
        "label_set_run",
        "label_set",
        "drift",
    ):
        connection.execute(text(f"DROP TABLE {table}"))
    connection.execute(text("ALTER TABLE entry DROP COLUMN extra"))
    for index in ("uq_run_submission", "ix_batch_dead"):
        connection.execute(text(f"DROP INDEX {index}"))
    for name in ("priority", "submission"):
        connection.execute(text(f"ALTER TABLE run DROP COLUMN {name}"))
    waiting = {"published_at": "", "not_before": " AND not_before IS NOT NULL"}
    for name, more in waiting.items():
        connection.execute(text(f"DROP INDEX ix_batch_queue_priority_{name}"))
        where = f"status = 'queued'{more}"
        connection.execute(text(f"CREATE INDEX ix_batch_queue_{name} ON batch (queue, {name}) WHERE {where}"))
    for name in ("requests", "not_modified", "bytes_fetched", "cpu_seconds", "gpu_seconds", "waits", "priority"):
        connection.execute(text(f"ALTER TABLE batch DROP COLUMN {name}"))
    statements = list(create_statements(connection.dialect.name))
    for statement in statements:
        if any(f"CREATE VIEW {view}" in statement for view in shown):
            connection.exec_driver_sql(re.sub("FROM shown_(entry|change) AS", "FROM catalog_entry AS", statement))
    (run_image,) = (statement for statement in statements if "CREATE VIEW run_image" in statement)
    connection.exec_driver_sql(re.sub(r", entry\.extra(::json)? AS extra", "", run_image))
    connection.execute(text("UPDATE alembic_version SET version_num = '0006'"))


def test_workers_of_schema_0006_go_on_after_an_upgrade_to_0007_which_waits_for_readers(database_url: str) -> None:
    engine = connect(database_url)
    upgrade(engine)
    claimed = take(engine, batches(engine, published_run(engine, new_model(engine)))[0])
    assert claimed is not None
    with engine.begin() as connection:
        back_to_0006(connection)
        # a view of somebody's own is not in its way
        connection.execute(text("CREATE VIEW hats AS SELECT image_key FROM catalog_labels WHERE label = 'hat'"))
    waits = threading.Event()
    with closing_engine(database_url) as other, ThreadPoolExecutor(1) as pool:
        with reading(engine) as reader:
            reader.execute(text("SELECT count(*) FROM batch"))
            upgraded = pool.submit(upgrade, other, lambda progress: waits.set())
            if engine.dialect.name == "postgresql":
                assert waits.wait(60)
        upgraded.result(60)
    assert schema_version(engine) == newest_version()
    assert complete(engine, claimed, result_for(claimed), "worker")
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*), count(extra) FROM run_image")).one()[1] == 0
        connection.execute(text("SELECT * FROM hats"))
    engine.dispose()


@contextmanager
def closing_engine(url: str) -> Iterator[Engine]:
    engine = connect(url)
    yield engine
    engine.dispose()

"""Upgrade a database to this version's schema, and refuse a database at another one."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, inspect, select, text
from sqlalchemy.exc import OperationalError

from tagmill.db.connection import connect, reading
from tagmill.db.migrations.compact.finish import lock_all
from tagmill.db.migrations.compact.prepare import (
    Pace,
    Progress,
    Report,
    catch_up,
    is_busy,
    lock,
    prepare,
)
from tagmill.db.migrations.compact.tables import OLD_TABLES, RENAMED
from tagmill.db.migrations.rights import dependents, grant, rights_on
from tagmill.db.views.create import VIEWS, create_statements
from tagmill.errors import ConfigurationError

#: the name of each file in `versions` begins with its revision, four digits
_MIGRATIONS = Path(__file__).parent / "migrations"
#: key of the advisory lock that lets one `upgrade` run at a time: the letters "tagmill"
_UPGRADE_LOCK = int.from_bytes(b"tagmill", "big")
#: the schema that is copied in chunks, not changed in place
_COPIED = "0004"
#: tables that later migrations change or refer to, in the order in which workers use them: one that holds a table
#: which is locked here and waits for another would be in a deadlock with the upgrade
LOCKED = ("batch", "run", "entry", "model")
#: views of earlier schemas that are gone
_FORMER_VIEWS = ("newest_result",)
#: seconds between two tries to lock all tables for the final transaction
_RETRY_SECONDS = 2.0


def upgrade(engine: Engine, report: Report = lambda progress: None, pace: Pace | None = None) -> None:
    """Upgrade the schema to this version's, if it is older. If several processes upgrade at once, only one does it.

    Others may go on using the database: what takes long is copied in short transactions, of which `report` is told.
    Only the last one keeps them waiting. An upgrade that was interrupted is continued.
    """
    found = schema_version(engine)
    if not _is_behind(found):
        return
    copied = found is not None and found <= _COPIED
    if copied:
        _require_no_dependents(engine)
        if found != _COPIED:
            _migrate(engine, _COPIED)
        prepare(engine, report, pace or Pace())
    while True:
        if copied:
            catch_up(engine, pace or Pace())
        try:
            _migrate(engine, "head")
            return
        except OperationalError as error:
            if not is_busy(error):
                raise
        report(Progress("waiting for transactions that use the tables", 1.0, 1.0))
        time.sleep(_RETRY_SECONDS)


def _migrate(engine: Engine, revision: str) -> None:
    """Run the migrations up to a revision, in one transaction."""
    # Imported here: no other command needs Alembic, and its import takes a quarter of a command's start.
    from alembic import command

    config = _config()
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # on SQLite `begin` has taken the write lock
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        found = _version(connection)
        if not _is_behind(found) or found == revision:
            return
        config.attributes["connection"] = connection
        if revision != "head":
            command.upgrade(config, revision)
            return
        if found is not None and found > _COPIED:  # what follows adds columns and tables, and columns of views
            lock(connection, LOCKED, "ACCESS EXCLUSIVE")
            if engine.dialect.name == "postgresql":  # a reader may have locked a view alone
                connection.execute(text("SET LOCAL lock_timeout = 900"))
            replace_views(connection, lambda: command.upgrade(config, revision))
            return
        if found == _COPIED:
            lock_all(connection)
        rights = rights_on(connection, (*VIEWS, *RENAMED))
        drop_views(connection)
        command.upgrade(config, revision)
        create_views(connection)
        grant(connection, rights)


def migrations(found: str | None) -> list[tuple[str, str]]:
    """Return revision and description of the migrations that a database at this revision lacks, in their order.

    Raise ConfigurationError if the database is at a newer one.
    """
    from alembic.script import ScriptDirectory  # see `_migrate`

    if not _is_behind(found):
        return []
    scripts = reversed(list(ScriptDirectory.from_config(_config()).iterate_revisions("head", found or "base")))
    return [(script.revision, " ".join((script.module.__doc__ or "").split())) for script in scripts]


def _config() -> Any:
    """Return Alembic's configuration."""
    from alembic.config import Config  # see `_migrate`

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def drop_views(connection: Connection) -> None:
    """Drop the views of this and of earlier versions."""
    existing = inspect(connection).get_view_names()
    for view in (*VIEWS, *_FORMER_VIEWS):
        if view in existing:
            connection.exec_driver_sql(f"DROP VIEW {view}")


def create_views(connection: Connection) -> None:
    """Create the views, which no migration does: each upgrade makes them again."""
    for statement in create_statements(connection.dialect.name):
        connection.exec_driver_sql(statement)


def replace_views(connection: Connection, migrate: Callable[[], None]) -> None:
    """Run a migration and bring the views up to date. What others made of the views, and their rights, stay."""
    if connection.dialect.name == "postgresql":
        migrate()
        for statement in create_statements(connection.dialect.name):
            connection.exec_driver_sql(statement.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
        return
    drop_views(connection)  # SQLite does not drop or rename a column that a view names
    migrate()
    create_views(connection)


def _require_no_dependents(engine: Engine) -> None:
    with reading(engine) as connection:
        names = dependents(connection, (*_FORMER_VIEWS, *VIEWS, *OLD_TABLES))
    if names:
        raise ConfigurationError(
            f"the upgrade replaces tables or views that {', '.join(names)} uses; drop it, upgrade, and create it again"
        )


def schema_version(engine: Engine) -> str | None:
    """Return the revision of the database, or None if it is empty."""
    try:
        with reading(engine) as connection:
            return _version(connection)
    except OperationalError as error:
        folder = Path(str(engine.url.database)).absolute().parent
        if engine.dialect.name != "sqlite" or os.access(folder, os.W_OK, effective_ids=True):
            raise
        # The WAL is a file next to the database, and even a reader has to create it.
        reason = "its folder cannot be written to, as SQLite has to even to read; copy the file to one that can"
        raise ConfigurationError(f"database {engine.url.database}: {reason}") from error


def newest_version() -> str:
    """Return the revision that this code needs."""
    return max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def require_schema(engine: Engine) -> None:
    """Raise ConfigurationError if the tables are missing or at another revision."""
    found, needed = schema_version(engine), newest_version()
    if found != needed:
        state = f"is at schema {found}" if found else "has no tables"
        raise ConfigurationError(f"the database {state}, {needed} is needed; run: tagmill db upgrade")


def open_database(url: str) -> Engine:
    """Return an engine for a database at this version's schema. Raise the errors of `connect` and `require_schema`."""
    engine = connect(url)
    require_schema(engine)
    return engine


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return None if found is None else str(found)


def _is_behind(found: str | None) -> bool:
    needed = newest_version()
    if found is not None and found > needed:
        raise ConfigurationError(f"the database is at schema {found}, this Tagmill knows {needed}; install a newer one")
    return found != needed

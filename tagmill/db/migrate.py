"""Upgrade a database to this version's schema, and refuse a database at another one."""

import os
from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.exc import OperationalError

from tagmill.db.connection import connect, reading
from tagmill.errors import ConfigurationError

#: the name of each file in `versions` begins with its revision, four digits
_MIGRATIONS = Path(__file__).parent / "migrations"
#: key of the advisory lock that lets one `upgrade` run at a time: the letters "tagmill"
_UPGRADE_LOCK = int.from_bytes(b"tagmill", "big")


def upgrade(engine: Engine) -> None:
    """Upgrade the schema to this version's, if it is older. If several processes upgrade at once, only one does it."""
    if not _is_behind(schema_version(engine)):
        return
    # Imported here: no other command needs Alembic, and its import takes a quarter of a command's start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # on SQLite `begin` has taken the write lock
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        if _is_behind(_version(connection)):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


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

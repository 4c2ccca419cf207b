"""What an upgrade of the schema would do: its steps, and the transactions that it would wait for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.db.migrate import LOCKED, migrations, newest_version, schema_version
from tagmill.db.roles import owns_tables

#: seconds between two looks: a transaction that is there both times is a long one, those of workers are not
_LOOK_SECONDS = 1.0
# Who may see no more of others sees their locks.
_HOLDING = text("""
    SELECT DISTINCT virtualtransaction, pid, coalesce(nullif(application_name, ''), 'no name') AS application, usename
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'relation' AND relation = ANY (CAST(:tables AS regclass[])) AND pid <> pg_backend_pid()
""")


@dataclass(frozen=True)
class Step:
    """A migration that is missing, and what it does in words."""

    revision: str
    what: str


@dataclass(frozen=True)
class Plan:
    """An upgrade that was not begun. There is none to do if `steps` is empty."""

    #: the schema of the database; None if there are no tables
    found: str | None
    needed: str
    steps: Sequence[Step]
    batches: int
    #: what this login lacks to run it
    hindrance: str | None
    #: transactions that the upgrade would wait for
    waits_for: Sequence[str]


def plan_upgrade(engine: Engine) -> Plan:
    """Return what `upgrade` would do now. Raise ConfigurationError if the database is newer than this version."""
    found, needed = schema_version(engine), newest_version()
    steps = [Step(revision, what) for revision, what in migrations(found)]
    if found is None or not steps:
        return Plan(found, needed, steps, 0, None, ())
    with reading(engine) as connection:
        batches = int(connection.execute(text("SELECT count(*) FROM batch")).scalar_one())
        postgresql = engine.dialect.name == "postgresql"
        lacking = postgresql and not owns_tables(connection)
    hindrance = "log in as the owner of the tables: this role is not" if lacking else None
    return Plan(found, needed, steps, batches, hindrance, _long_transactions(engine) if postgresql else ())


def _long_transactions(engine: Engine) -> list[str]:
    """Return the transactions that use the tables which an upgrade locks."""
    asked = {"tables": list(LOCKED)}
    with reading(engine) as connection:
        first = {row.virtualtransaction for row in connection.execute(_HOLDING, asked)}
    if first:
        time.sleep(_LOOK_SECONDS)
    with reading(engine) as connection:
        rows = [row for row in connection.execute(_HOLDING, asked) if row.virtualtransaction in first]
    return [f"process {row.pid} ({row.application}, {row.usename})" for row in rows]

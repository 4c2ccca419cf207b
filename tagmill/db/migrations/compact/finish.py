"""The final transaction: copy what is left, drop the old tables and give the new ones their names."""

from sqlalchemy import Connection, text

from tagmill.db.migrations.compact.copy import Copier
from tagmill.db.migrations.compact.prepare import copy_rest, create_tables, has_tables, is_started, lock, start_stages
from tagmill.db.migrations.compact.tables import OLD_TABLES, PREFIX, RENAMED, new_tables, own_tables
from tagmill.db.migrations.compact.watch import drop_functions

_OLD_VIEWS = ("catalog_labels", "catalog_masks", "newest_result")

#: what reapers publish: the producer of the version before cannot any more
_UNPUBLISHED = """
UPDATE upgrade_run SET publish_until = 0
WHERE state = 'open' AND id IN (
    SELECT run_id FROM upgrade_batch WHERE status = 'queued' AND published_at IS NULL AND not_before IS NULL
)
"""
_STAGES = """
UPDATE upgrade_model SET stage = (SELECT model.stage FROM model WHERE {hash} = upgrade_model.sha256)
WHERE stage <> (SELECT model.stage FROM model WHERE {hash} = upgrade_model.sha256)
"""
_KEEP_SEQUENCE = "SELECT setval('upgrade_{table}_id_seq', last_value, is_called) FROM {table}_id_seq"
_MODEL_SEQUENCE = "SELECT setval('upgrade_model_id_seq', coalesce(max(id), 1), max(id) IS NOT NULL) FROM upgrade_model"
_CONSTRAINTS = """
SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(:table) AND strpos(conname, 'upgrade_') > 0
"""


def lock_all(connection: Connection) -> None:
    """Lock the old tables and views against everybody, as `prepare.lock` does."""
    found = [name for name in (*_OLD_VIEWS, "batch", *OLD_TABLES) if connection.dialect.has_table(connection, name)]
    lock(connection, tuple(dict.fromkeys(found)), "ACCESS EXCLUSIVE")


def finish(connection: Connection) -> None:
    """Turn schema 0004 into 0005, whatever `prepare` has copied before: everything, a part or nothing."""
    dialect = connection.dialect.name
    if not has_tables(connection):
        if _is_empty(connection):
            _drop_old(connection)
            new_tables(dialect).create_all(connection)
            return
        create_tables(connection)
    if not is_started(connection):
        start_stages(connection)
    copy_rest(connection)
    Copier(connection).models()
    sha256 = "decode(model.sha256, 'hex')" if dialect == "postgresql" else "tagmill_unhex(model.sha256)"
    connection.execute(text(_STAGES.format(hash=sha256)))
    connection.execute(text(_UNPUBLISHED))
    if dialect == "postgresql":
        for table in ("run", "batch"):
            connection.execute(text(_KEEP_SEQUENCE.format(table=table)))
        connection.execute(text(_MODEL_SEQUENCE))
    _drop_old(connection)
    own_tables().drop_all(connection)
    if dialect == "postgresql":
        drop_functions(connection)
    for table in RENAMED:
        connection.execute(text(f"ALTER TABLE {PREFIX}{table} RENAME TO {table}"))
        if dialect == "postgresql":
            _rename_parts(connection, table)


def _is_empty(connection: Connection) -> bool:
    return not any(connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).first() for table in OLD_TABLES)


def _drop_old(connection: Connection) -> None:
    for view in _OLD_VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
    for table in OLD_TABLES:
        connection.execute(text(f"DROP TABLE {table}"))


def _rename_parts(connection: Connection, table: str) -> None:
    """Give the constraints and the sequence of a renamed table their names."""
    for name in connection.execute(text(_CONSTRAINTS), {"table": table}).scalars().all():
        connection.execute(text(f"ALTER TABLE {table} RENAME CONSTRAINT {name} TO {name.replace(PREFIX, '')}"))
    if table in ("model", "run", "batch"):
        connection.execute(text(f"ALTER SEQUENCE {PREFIX}{table}_id_seq RENAME TO {table}_id_seq"))

"""Log what changes in the old tables while they are copied.

Triggers write the log in the transactions that change rows, so it names a row exactly from the moment on at which the
change can be seen. Nothing else would do: ids are given before rows can be seen, and a retry leaves no time behind.
"""

from collections import defaultdict
from enum import IntEnum

from sqlalchemy import Connection, text

from tagmill.db.migrations.compact.chosen import AnyOf
from tagmill.db.migrations.compact.copy import Copier

#: the tables with triggers
WATCHED = ("run", "batch", "run_image", "image", "inference", "file_seen")
#: milliseconds for which this may wait for locks and make others wait behind it; they would look for a deadlock after
#: a second (deadlock_timeout)
LOCK_MILLISECONDS = 900


class Kind(IntEnum):
    """What a row of the log names. Rows are read in this order: nothing is copied before what it refers to."""

    RUN = 0
    IMAGE = 1
    INFERENCE = 2
    FILE = 3
    #: an entry that was deleted, as RUN_ID:POSITION
    DELETED_ENTRY = 4
    BATCH = 5


#: table, event, kind, key of the row that changed
_TRIGGERS = (
    ("run", "INSERT", Kind.RUN, "changed.id"),
    ("run", "UPDATE", Kind.RUN, "changed.id"),
    ("batch", "INSERT", Kind.BATCH, "changed.id"),
    ("batch", "UPDATE", Kind.BATCH, "changed.id"),
    ("image", "INSERT", Kind.IMAGE, "changed.sha256"),
    ("inference", "INSERT", Kind.INFERENCE, "changed.id"),
    ("file_seen", "INSERT", Kind.FILE, "changed.identity"),
    ("run_image", "DELETE", Kind.DELETED_ENTRY, "changed.run_id || ':' || changed.position"),
    ("run_image", "DELETE", Kind.BATCH, "changed.batch_id"),
)
# A worker's role needs no rights on the log.
_FUNCTION = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO upgrade_change (kind, row_key) SELECT {kind}, {key} FROM changed;
    RETURN NULL;
END
$$
"""
_TRIGGER = """
CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {version} TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION {name}()
"""
_SQLITE_TRIGGER = """
CREATE TRIGGER {name} AFTER {event} ON {table}
BEGIN INSERT INTO upgrade_change (kind, row_key) VALUES ({kind}, {key}); END
"""
_NEXT = "SELECT id, kind, row_key FROM upgrade_change ORDER BY kind, id LIMIT :rows"


def start_log(connection: Connection) -> None:
    """Create the triggers. The caller has locked the tables."""
    postgresql = connection.dialect.name == "postgresql"
    for table, event, kind, key in _TRIGGERS:
        version = "OLD" if event == "DELETE" else "NEW"
        words = {"name": _name(table, event, kind), "table": table, "event": event, "version": version}
        if postgresql:
            key = f"CAST({key} AS text)"
            connection.execute(text(_FUNCTION.format(name=words["name"], kind=int(kind), key=key)))
            connection.execute(text(_TRIGGER.format(**words)))
        else:
            key = key.replace("changed.", f"{version}.")
            connection.exec_driver_sql(_SQLITE_TRIGGER.format(kind=int(kind), key=key, **words))


def drop_functions(connection: Connection) -> None:
    """Drop the triggers' functions, once the tables and their triggers are gone."""
    for table, event, kind, _ in _TRIGGERS:
        connection.execute(text(f"DROP FUNCTION IF EXISTS {_name(table, event, kind)}"))


def changes_left(connection: Connection, most: int) -> int:
    """Return how many rows the log has; `most` if it has more."""
    left = "SELECT count(*) FROM (SELECT id FROM upgrade_change LIMIT :most) AS found"
    return int(connection.execute(text(left), {"most": most}).scalar_one())


def copy_changes(connection: Connection, rows: int, batches: int) -> bool:
    """Copy what the next rows of the log name, and delete them; return False if there is none.

    A batch takes as long as many other rows, so only `batches` of the rows that name one are copied.
    """
    found = connection.execute(text(_NEXT), {"rows": rows}).all()
    if not found:
        return False
    others = [row for row in found if row.kind != Kind.BATCH]
    found = others or found[:batches]
    keys: dict[int, list[str]] = defaultdict(list)
    for row in found:
        keys[row.kind].append(row.row_key)
    # Deleted by kind and id: others may meanwhile write rows with ids below the last one.
    ids = AnyOf([row.id for row in found])
    copier = Copier(connection)
    copier.delete_changes(ids)
    numbers = {kind: AnyOf(sorted({int(key) for key in keys[kind]})) for kind in _NUMBERED if keys[kind]}
    if Kind.RUN in numbers:
        copier.runs(numbers[Kind.RUN])
    if keys[Kind.IMAGE]:
        copier.images(AnyOf(sorted(set(keys[Kind.IMAGE]))))
    if Kind.INFERENCE in numbers:
        copier.results(numbers[Kind.INFERENCE])
    if keys[Kind.FILE]:
        copier.files(AnyOf(sorted(set(keys[Kind.FILE]))))
    if keys[Kind.DELETED_ENTRY]:
        places = [key.split(":") for key in keys[Kind.DELETED_ENTRY]]
        copier.forget_entries([(int(run), int(position)) for run, position in places])
    if Kind.BATCH in numbers:
        copier.batches(numbers[Kind.BATCH], again=True)
    return True


_NUMBERED = (Kind.RUN, Kind.INFERENCE, Kind.BATCH)


def _name(table: str, event: str, kind: Kind) -> str:
    return f"upgrade_{table}_{event.lower()}_{kind.name.lower()}"

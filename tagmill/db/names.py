"""Numbers for names: tables of images and results hold the id of a label, a provider or a worker instead of its name.

Names are few and never change, so a process asks for each of them once.
"""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, Table, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import insert_ignore, reading

#: engine -> (table, name) -> id
_known: WeakKeyDictionary[Engine, dict[tuple[str, str], int]] = WeakKeyDictionary()


def ids_of(engine: Engine, table: Table, names: Iterable[str]) -> dict[str, int]:
    """Return name -> id, and add the names that the table lacks, in a transaction of its own."""
    known = _known.setdefault(engine, {})
    wanted = set(names)
    missing = sorted(name for name in wanted if (table.name, name) not in known)
    if missing:
        for look in (_read, _add):
            found = look(engine, table, missing)
            known.update({(table.name, name): number for name, number in found.items()})
            missing = [name for name in missing if name not in found]
            if not missing:
                break
    return {name: known[table.name, name] for name in wanted}


def _read(engine: Engine, table: Table, names: list[str]) -> dict[str, int]:
    wanted = select(table.c.name, table.c.id).where(any_of(table.c.name, "names"))
    with reading(engine) as connection:
        return {row.name: row.id for row in connection.execute(wanted, {"names": names})}


def _add(engine: Engine, table: Table, names: list[str]) -> dict[str, int]:
    with engine.begin() as connection:
        connection.execute(insert_ignore(connection, table), [{"name": name} for name in names])
    return _read(engine, table, names)

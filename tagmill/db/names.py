"""Numbers for names: tables of images and results hold the id of a label, a provider or a worker instead of its name.

Names are few and never change, so a process asks for each of them once.
"""

from functools import lru_cache

from sqlalchemy import Engine, Table, select

from tagmill.db.connection import insert_ignore, reading
from tagmill.db.outages.failover import forget_at_failover


class Ids(dict[str, int]):
    """The ids of names of one table, by name. A name that the table lacks is added when its id is asked for.

    Adding is a transaction of its own: ask before another one begins, for which SQLite would have to wait.
    """

    def __init__(self, engine: Engine, table: Table) -> None:
        super().__init__()
        self._engine = engine
        self._table = table

    def __missing__(self, name: str) -> int:
        self._read()
        if name not in self:
            with self._engine.begin() as connection:
                connection.execute(insert_ignore(connection, self._table), {"name": name})
            self._read()
        return dict.__getitem__(self, name)

    def _read(self) -> None:
        with reading(self._engine) as connection:
            self.update({row.name: row.id for row in connection.execute(select(self._table))})


@lru_cache(maxsize=64)
def ids_of(engine: Engine, table: Table) -> Ids:
    """Return the ids of the names of a table, which are shared by all threads of this process."""
    return Ids(engine, table)


forget_at_failover(ids_of.cache_clear)

"""How a database holds embeddings, which decides how they are compared."""

from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text

_COLUMN = text("""
    SELECT format_type(atttypid, NULL) AS type,
        (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS version
    FROM pg_attribute WHERE attrelid = 'embedding'::regclass AND attname = 'vector'
""")

#: first version of pgvector whose index scans go on until enough rows fulfill a condition
_ITERATIVE = (0, 8)


class Storage(StrEnum):
    """What the column `embedding.vector` is."""

    #: pgvector's type: PostgreSQL compares embeddings itself
    HALFVEC = "halfvec"
    #: the same bytes in a PostgreSQL without pgvector: embeddings are read and compared in Python
    BYTES = "bytea"
    #: float32 in SQLite: sqlite-vec compares them if it can be loaded, else Python does
    SQLITE = "sqlite"


@dataclass(frozen=True)
class Abilities:
    """What a database can do with embeddings."""

    storage: Storage
    #: whether this pgvector has `hnsw.iterative_scan`
    iterative: bool = False


#: A search is a few statements of a millisecond: each is asked for once in a process.
_known: WeakKeyDictionary[Engine, Abilities] = WeakKeyDictionary()


def forget_abilities(engine: Engine) -> None:
    """Ask the database again: it was changed."""
    _known.pop(engine, None)


def abilities_of(connection: Connection) -> Abilities:
    """Return what this database can do with embeddings."""
    if connection.dialect.name != "postgresql":
        return Abilities(Storage.SQLITE)
    if (found := _known.get(connection.engine)) is None:
        row = connection.execute(_COLUMN).one()
        if row.type.endswith("halfvec"):
            version = tuple(map(int, row.version.split(".")[:2]))
            found = Abilities(Storage.HALFVEC, version >= _ITERATIVE)
        else:
            found = Abilities(Storage.BYTES)
        _known[connection.engine] = found
    return found

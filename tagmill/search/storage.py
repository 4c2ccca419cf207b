"""How a database holds embeddings, which decides how they are compared."""

from enum import StrEnum

from sqlalchemy import Connection, text

_COLUMN = text("""
    SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'embedding'::regclass AND attname = 'vector'
""")
_EXTENSION = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")

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


def storage_of(connection: Connection) -> Storage:
    """Return how this database holds embeddings."""
    if connection.dialect.name != "postgresql":
        return Storage.SQLITE
    found = str(connection.execute(_COLUMN).scalar_one())
    return Storage.HALFVEC if found.endswith("halfvec") else Storage.BYTES


def scans_are_iterative(connection: Connection) -> bool:
    """Return whether this pgvector has `hnsw.iterative_scan`."""
    version = str(connection.execute(_EXTENSION).scalar_one())
    return tuple(map(int, version.split(".")[:2])) >= _ITERATIVE

"""pgvector, the extension of PostgreSQL that compares embeddings (https://github.com/pgvector/pgvector)."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

#: first version with the type halfvec
_HALFVEC = (0, 7)


def create_pgvector(connection: Connection) -> bool:
    """Create the extension unless it is there; return whether the database has the type halfvec.

    It has not if pgvector is not installed on the server, is older, or may not be created by this role.
    """
    available = text("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    found = connection.execute(available).scalar_one_or_none()
    if found is None or tuple(map(int, found.split(".")[:2])) < _HALFVEC:
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
    except DBAPIError:
        return False  # only a superuser may create it here
    return connection.execute(text("SELECT to_regtype('halfvec') IS NOT NULL")).scalar_one() is True

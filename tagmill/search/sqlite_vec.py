"""sqlite-vec, which compares embeddings inside SQLite (https://alexgarcia.xyz/sqlite-vec/)."""

import sqlite3
from typing import Any

from sqlalchemy import Connection


def load_sqlite_vec(connection: Connection) -> bool:
    """Load sqlite-vec into a connection; return whether it is there.

    It is not without the extra `vectors`, nor in a Python whose sqlite3 was built without loadable extensions.
    """
    raw: Any = connection.connection.driver_connection
    if not hasattr(raw, "enable_load_extension"):
        return False
    try:
        import sqlite_vec
    except ModuleNotFoundError:
        return False
    try:
        raw.enable_load_extension(True)
        sqlite_vec.load(raw)
        raw.enable_load_extension(False)
    except sqlite3.Error:
        return False
    return True

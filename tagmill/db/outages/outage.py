"""Which errors are outages: the database is down, full or busy."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: primary result codes of SQLite: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN (sqlite3.h)
_SQLITE_OUTAGES = {5, 6, 8, 10, 13, 14}
#: SQLSTATEs of PostgreSQL or their prefixes: connection, transaction rolled back, resources (disk full), operator
#: intervention, read only, idle for too long in a transaction
_POSTGRESQL_OUTAGES = ("08", "40", "53", "57", "25006", "25P03")


def is_outage(error: Exception) -> bool:
    """Return whether the database is down, full or busy, so that the same statement may succeed later.

    Errors of the statement itself, such as an unknown column, are not outages.
    """
    if isinstance(error, PoolTimeout):
        return True  # all connections of the pool hang
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_OUTAGES
    state = getattr(error.orig, "sqlstate", None)
    # psycopg sets no SQLSTATE for a connection that was refused or broke.
    return isinstance(error, OperationalError) if state is None else state.startswith(_POSTGRESQL_OUTAGES)

"""A PostgreSQL standby, for tests of what it lacks when it is promoted."""

import psycopg

from support.processes import wait_until
from support.services import PostgresServer, libpq_url


def execute(server: PostgresServer, *statements: str) -> None:
    """Execute statements as the superuser, each in a transaction of its own."""
    with psycopg.connect(libpq_url(server.url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def receives(standby: PostgresServer) -> bool:
    """Return whether a standby gets what its primary writes."""
    with psycopg.connect(libpq_url(standby.url), autocommit=True) as connection:
        return bool(connection.execute("SELECT 1 FROM pg_stat_wal_receiver").fetchall())


def detach(standby: PostgresServer) -> None:
    """Have a standby get nothing from now on, so that it lacks the last transactions."""
    execute(standby, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
    wait_until(lambda: not receives(standby), 60, "the standby to be detached")

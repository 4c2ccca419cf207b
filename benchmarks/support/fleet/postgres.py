"""The PostgreSQL of `benchmarks.worker.fleet`: room for all connections, and the time of each statement."""

from collections.abc import Sequence

import psycopg
from support.services import PostgresServer

STATEMENTS = "pg_stat_statements"
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_SIZE = "SELECT pg_database_size(current_database())"
_COLUMNS = ("share", "us an image", "us a call", "calls", "pages a call", "WAL bytes an image", "statement")
_TIMES = f"""
    SELECT query, calls, total_exec_time, shared_blks_hit, wal_bytes FROM {STATEMENTS}
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY total_exec_time DESC
"""


class FleetPostgres(PostgresServer):
    """A PostgreSQL with more options, each NAME=VALUE."""

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__()
        self._options = options

    def _command(self) -> list[str]:
        return [*super()._command(), *(f"-c{option}" for option in self._options)]


def deadlocks(url: str) -> int:
    """Return the deadlocks of a database so far. PostgreSQL counts them when a connection ends or is idle."""
    return _number(url, _DEADLOCKS)


def database_bytes(url: str) -> int:
    """Return the bytes of a database with its indexes."""
    return _number(url, _SIZE)


def count_statements(url: str) -> None:
    """Count the time of each statement from now on. The server needs `shared_preload_libraries=pg_stat_statements`."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE EXTENSION IF NOT EXISTS {STATEMENTS}")
        connection.execute(f"SELECT {STATEMENTS}_reset()")


def statements_table(url: str, images: int, lines: int = 16) -> str:
    """Return a Markdown table of the statements that took longest, with their time for an image in microseconds.

    The time includes waiting for locks and for a core.
    """
    with psycopg.connect(url) as connection:
        rows = connection.execute(_TIMES).fetchall()
    whole = sum(row[2] for row in rows)
    table = [
        "| share | us an image | us a call | calls | pages a call | WAL bytes an image | statement |",
        "|---" * 7 + "|",
    ]
    for query, calls, milliseconds, pages, wal in rows[:lines]:
        cells = (
            f"{milliseconds / whole:.1%}",
            f"{1000 * milliseconds / images:.1f}",
            f"{1000 * milliseconds / calls:.0f}",
            f"{calls:,}",
            f"{pages / calls:.0f}",
            f"{wal / images:.0f}",
            " ".join(query.split())[:110].replace("|", "\\|"),
        )
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def _number(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        return int(connection.execute(query.encode()).fetchall()[0][0])

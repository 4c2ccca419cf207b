"""Write many rows with one statement, in the fastest way of each database.

Values are passed to the driver as they are: those of a type of `tagmill.db.types` as its `stored` returns them.

PostgreSQL: binary COPY. It supports no ON CONFLICT, no RETURNING and no UPDATE, so rows that may exist already and rows
that change are passed as arrays to `unnest`. For the labels and masks of 64 images COPY took 4.8 and 4.4 ms, `unnest`
8.8 and 7.5, psycopg's executemany 32 and 16. SQLite: the driver's executemany with tuples, without SQLAlchemy's work
per row. `python -m benchmarks.sql` compares a whole batch with plain COPY and executemany.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Double, Integer, LargeBinary, SmallInteger, String, Table
from sqlalchemy.exc import DBAPIError

from tagmill.db.types import Hash128, Integers, Rle, Sha256

Rows = Sequence[tuple[Any, ...]]

#: PostgreSQL's names; the first that fits counts. Every string is `text`: a cast to varchar(n) would silently cut it.
_TYPES = (
    (BigInteger, "int8"),
    (SmallInteger, "int2"),
    (Integer, "int4"),
    (Double, "float8"),
    (Hash128, "uuid"),
    (Integers, "int8[]"),
    ((LargeBinary, Sha256, Rle), "bytea"),
    (String, "text"),
)


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows whose keys are new; `columns` names the values of a row. Raise IntegrityError for an existing key."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, columns, rows)
    else:
        connection.exec_driver_sql(_insert_values(table, columns), list(rows))


def insert_new(connection: Connection, table: Table, columns: Sequence[str], rows: Rows) -> None:
    """Insert rows in their order; skip those whose key exists already."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_insert_unnest(table, columns), _arrays(rows))
    else:
        connection.exec_driver_sql(f"{_insert_values(table, columns)} ON CONFLICT DO NOTHING", list(rows))


def upsert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Rows, conflict: str) -> None:
    """Insert rows in their order; `conflict`, ON CONFLICT ... DO UPDATE, says what becomes of those that exist."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_insert_unnest(table, columns, conflict), _arrays(rows))
    else:
        connection.exec_driver_sql(f"{_insert_values(table, columns)} {conflict}", list(rows))


def insert_new_returning(
    connection: Connection, table: Table, columns: Sequence[str], rows: Rows, wanted: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Insert rows as `insert_new` does; return the columns `wanted` of the rows that were new."""
    if not rows:
        return []
    names = ", ".join(wanted)
    if connection.dialect.name == "postgresql":
        statement = f"{_insert_unnest(table, columns)} RETURNING {names}"
        return [tuple(row) for row in connection.exec_driver_sql(statement, _arrays(rows))]
    # An executemany returns no rows.
    statement = f"{_insert_values(table, columns)} ON CONFLICT DO NOTHING RETURNING {names}"
    return [tuple(row) for values in rows for row in connection.exec_driver_sql(statement, values)]


def _insert_values(table: Table, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _insert_unnest(table: Table, columns: Sequence[str], conflict: str = "ON CONFLICT DO NOTHING") -> str:
    source = f"SELECT * FROM unnest({_casts(table, columns)})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) {source} {conflict}"


def _casts(table: Table, columns: Sequence[str]) -> str:
    # %b passes arrays in binary, which needs no escaping.
    return ", ".join(f"%b::{_type(table.c[name])}[]" for name in columns)


def _arrays(rows: Rows) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _type(column: Column[Any]) -> str:
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))


def _copy(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    raw, dialect = connection.connection, connection.dialect
    assert dialect.loaded_dbapi is not None
    cursor: Any = raw.cursor()
    try:
        with cursor, cursor.copy(statement) as copy:
            copy.set_types([_type(table.c[name]) for name in columns])
            for row in rows:
                copy.write_row(row)
    except dialect.loaded_dbapi.Error as error:
        # COPY bypasses SQLAlchemy, so wrap the error as SQLAlchemy does: `is_outage` then recognizes it.
        broken = dialect.is_disconnect(error, raw.driver_connection, cursor)
        if broken:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, dialect.loaded_dbapi.Error, connection_invalidated=broken, dialect=dialect
        ) from error

"""Write many rows with one statement, in the fastest way of each database.

PostgreSQL: binary COPY. It supports no ON CONFLICT, no RETURNING and no UPDATE, so rows that may exist already and rows
that change are passed as arrays to `unnest`. For the labels and masks of 64 images COPY took 4.8 and 4.4 ms, `unnest`
8.8 and 7.5, psycopg's executemany 32 and 16. SQLite: the driver's executemany with tuples, without SQLAlchemy's work
per row. `python -m benchmarks.sql` compares a whole batch with plain COPY and executemany.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Double, Integer, String, Table
from sqlalchemy.exc import DBAPIError

Rows = Sequence[tuple[Any, ...]]

#: PostgreSQL's names. Every string is `text`: a cast to varchar(n) would silently cut a longer one.
_TYPES = ((BigInteger, "int8"), (Integer, "int4"), (Double, "float8"), (String, "text"))


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


def insert_new_ids(
    connection: Connection, table: Table, columns: Sequence[str], rows: Rows, key: Sequence[str]
) -> dict[tuple[Any, ...], int]:
    """Insert rows as `insert_new` does; return key -> id of the rows that were new, `key` naming the key's columns."""
    if not rows:
        return {}
    wanted = ", ".join((*key, "id"))
    if connection.dialect.name == "postgresql":
        statement = f"{_insert_unnest(table, columns)} RETURNING {wanted}"
        found = connection.exec_driver_sql(statement, _arrays(rows))
    else:
        # An executemany returns no rows. SQLite has one writer at a time and ids increase: higher ids are ours.
        last = connection.exec_driver_sql(f"SELECT coalesce(max(id), 0) FROM {table.name}").scalar_one()
        insert_new(connection, table, columns, rows)
        found = connection.exec_driver_sql(f"SELECT {wanted} FROM {table.name} WHERE id > ? ORDER BY id", (last,))
    return {tuple(values): row_id for *values, row_id in found}


def update_rows(connection: Connection, table: Table, values: Sequence[str], key: Sequence[str], rows: Rows) -> None:
    """Update the columns `values` of existing rows; each of `rows` holds the new values, then its key."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        changes = ", ".join(f"{name} = new.{name}" for name in values)
        same = " AND ".join(f"{table.name}.{name} = new.{name}" for name in key)
        columns = (*values, *key)
        source = f"unnest({_casts(table, columns)}) AS new({', '.join(columns)})"
        connection.exec_driver_sql(f"UPDATE {table.name} SET {changes} FROM {source} WHERE {same}", _arrays(rows))
    else:
        changes, same = (glue.join(f"{name} = ?" for name in names) for glue, names in ((", ", values), (" AND ", key)))
        connection.exec_driver_sql(f"UPDATE {table.name} SET {changes} WHERE {same}", list(rows))


def _insert_values(table: Table, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _insert_unnest(table: Table, columns: Sequence[str]) -> str:
    source = f"SELECT * FROM unnest({_casts(table, columns)})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) {source} ON CONFLICT DO NOTHING"


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

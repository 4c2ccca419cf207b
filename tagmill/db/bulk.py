"""Write many rows with one statement, in the fastest way of each database.

Values are those of Python; the types of `tagmill.db.types` say what the driver gets instead.

PostgreSQL: binary COPY. It supports no ON CONFLICT, no RETURNING and no UPDATE, so rows that may exist already and rows
that change are passed as arrays to `unnest`. For the labels and masks of 64 images COPY took 4.8 and 4.4 ms, `unnest`
8.8 and 7.5, psycopg's executemany 32 and 16. SQLite: the driver's executemany with tuples, without SQLAlchemy's work
per row. `python -m benchmarks.database.sql` compares a whole batch with plain COPY and executemany.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Double, Integer, LargeBinary, SmallInteger, String, Table
from sqlalchemy.exc import DBAPIError

from tagmill.db.types import Converter, Hash128, Integers, Rle, Sha256, SmallType, Vector

Rows = Sequence[tuple[Any, ...]]

#: PostgreSQL's names; the first that fits counts. Every string is `text`: a cast to varchar(n) would silently cut it.
_TYPES = (
    (BigInteger, "int8"),
    (SmallInteger, "int2"),
    (Integer, "int4"),
    (Double, "float8"),
    (Hash128, "uuid"),
    ((LargeBinary, Sha256, Rle, Vector), "bytea"),
    (String, "text"),
)


_NONE: Mapping[str, Any] = MappingProxyType({})
#: column -> the value that all rows have
Constants = Mapping[str, Any]


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Rows) -> None:
    """Insert rows whose keys are new; `columns` names the values of a row. Raise IntegrityError for an existing key."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, columns, rows)
    else:
        statement = _insert("sqlite", table, tuple(columns), ())
        connection.exec_driver_sql(statement, _parameters(connection, table, columns, rows, _NONE))


def insert_new(
    connection: Connection, table: Table, columns: Sequence[str], rows: Rows, constants: Constants = _NONE
) -> None:
    """Insert rows in their order; skip those whose key exists already."""
    upsert_rows(connection, table, columns, rows, "ON CONFLICT DO NOTHING", constants)


def upsert_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Rows,
    conflict: str,
    constants: Constants = _NONE,
) -> None:
    """Insert rows in their order; `conflict`, ON CONFLICT ..., says what becomes of those that exist."""
    if not rows:
        return
    statement = f"{_insert(connection.dialect.name, table, tuple(columns), tuple(constants))} {conflict}"
    connection.exec_driver_sql(statement, _parameters(connection, table, columns, rows, constants))


def insert_new_returning(
    connection: Connection, table: Table, columns: Sequence[str], rows: Rows, wanted: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Insert rows as `insert_new` does; return the columns `wanted` of the rows that were new."""
    if not rows:
        return []
    insert = _insert(connection.dialect.name, table, tuple(columns), ())
    statement = f"{insert} ON CONFLICT DO NOTHING RETURNING {', '.join(wanted)}"
    parameters = _parameters(connection, table, columns, rows, _NONE)
    if connection.dialect.name == "postgresql":
        return [tuple(row) for row in connection.exec_driver_sql(statement, parameters)]
    # An executemany returns no rows.
    with driver_cursor(connection, statement) as cursor:
        return [row for values in parameters for row in cursor.execute(statement, values)]


@lru_cache(maxsize=64)
def _insert(dialect: str, table: Table, columns: tuple[str, ...], constants: tuple[str, ...]) -> str:
    names = ", ".join((*columns, *constants))
    if dialect == "postgresql":
        # %b passes values in binary, which needs no escaping.
        arrays = ", ".join(f"%b::{_type(table.c[name])}[]" for name in columns)
        same = "".join(f", %b::{_type(table.c[name])}" for name in constants)
        return f"INSERT INTO {table.name} ({names}) SELECT new.*{same} FROM unnest({arrays}) AS new"
    return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * (len(columns) + len(constants)))})"


def _parameters(connection: Connection, table: Table, columns: Sequence[str], rows: Rows, constants: Constants) -> Any:
    dialect = connection.dialect.name
    converters = _converters(dialect, table, tuple(constants))
    pairs = zip(converters, constants.values(), strict=True)
    same = tuple(convert(value) if convert else value for convert, value in pairs)
    if dialect == "postgresql":
        # In the statement, constants stand before the arrays.
        return (*same, *_columns(dialect, table, columns, rows))
    return [(*row, *same) for row in zip(*_columns(dialect, table, columns, rows), strict=True)]


def _columns(dialect: str, table: Table, columns: Sequence[str], rows: Rows) -> list[list[Any]]:
    """Return the driver's values of rows, column by column."""
    return [
        list(values if convert is None else map(convert, values))
        for convert, values in zip(_converters(dialect, table, tuple(columns)), zip(*rows, strict=True), strict=True)
    ]


@lru_cache(maxsize=64)
def _converters(dialect: str, table: Table, columns: tuple[str, ...]) -> tuple[Converter | None, ...]:
    return tuple(_converter(dialect, table.c[name]) for name in columns)


def _converter(dialect: str, column: Column[Any]) -> Converter | None:
    if not isinstance(column.type, SmallType):
        return None
    convert = column.type.to_driver(dialect)
    return (lambda value: None if value is None else convert(value)) if column.nullable else convert


def _type(column: Column[Any]) -> str:
    if isinstance(column.type, Integers):
        return "int8[]" if issubclass(column.type.element, BigInteger) else "int4[]"
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))


def _copy(connection: Connection, table: Table, columns: Sequence[str], rows: Rows) -> None:
    statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with driver_cursor(connection, statement) as cursor, cursor.copy(statement) as copy:
        copy.set_types([_type(table.c[name]) for name in columns])
        if any(_converters("postgresql", table, tuple(columns))):
            rows = list(zip(*_columns("postgresql", table, columns, rows), strict=True))
        for row in rows:
            copy.write_row(row)


@contextmanager
def driver_cursor(connection: Connection, statement: str) -> Iterator[Any]:
    """Open a cursor of the driver, for what SQLAlchemy cannot do.

    Errors are raised as SQLAlchemy raises them, so that `is_outage` recognizes them.
    """
    raw, dialect = connection.connection, connection.dialect
    assert dialect.loaded_dbapi is not None
    cursor: Any = raw.cursor()
    try:
        with closing(cursor):
            yield cursor
    except dialect.loaded_dbapi.Error as error:
        broken = dialect.is_disconnect(error, raw.driver_connection, cursor)
        if broken:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, dialect.loaded_dbapi.Error, connection_invalidated=broken, dialect=dialect
        ) from error

"""Engines for SQLite (WAL) and PostgreSQL, and the database's clock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, Select, Table, create_engine, event, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Double

from tagmill.database_url import sqlalchemy_url
from tagmill.db.outages.failover import primary_of
from tagmill.db.outages.refusal import refusal
from tagmill.errors import ConfigurationError, DatabaseRefusedError, first_line

#: seconds a SQLite writer waits for another one
SQLITE_BUSY_SECONDS = 60
#: libpq parameters, unless the URL sets them: a host that is gone is noticed after about 15 seconds, not 15 minutes
LIBPQ_DEFAULTS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
#: prefix of the application_name of workers in pg_stat_activity; the name from the URL follows, as producers have it
WORKER = "tagmill (worker)"
#: ends the connections of workers whose open transaction has waited `seconds` for its client
_END_SILENT = text("""
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user
      AND starts_with(application_name, :worker)
      AND xact_start IS NOT NULL AND wait_event = 'ClientRead'
      AND greatest(query_start, state_change) < clock_timestamp() - make_interval(secs => :seconds)
""")
#: what to do about a role that lacks a right
_RIGHTS = "log in as another role, or let the tables' owner run `tagmill db upgrade` with --worker or --producer ROLE"


class epoch_now(FunctionElement[float]):  # noqa: N801 - reads like the SQL function
    """Unix seconds by the database's clock, so that leases never depend on the clocks of workers."""

    type = Double()
    inherit_cache = True


@compiles(epoch_now, "postgresql")
def _epoch_now_postgresql(element: epoch_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(epoch_now, "sqlite")
def _epoch_now_sqlite(element: epoch_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def connect(url: str, *, worker: bool = False) -> Engine:
    """Return an engine. SQLite uses WAL, and a transaction that may write takes the write lock when it begins.

    With `worker`, PostgreSQL shows the connection as a worker's, and `terminate_silent` may end it.

    Connections work through a pooler that gives each transaction another one to the server, such as PgBouncer: they
    have no prepared statements and no other state beyond a transaction, and the startup packet has no `options`.
    Of several hosts, the one that takes writes is connected to, unless `target_session_attrs` says otherwise.
    Raise DatabaseRefusedError, also later, if the server refuses a connection for a reason that lasts.
    """
    parsed = make_url(sqlalchemy_url(url))
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:" and not Path(parsed.database).absolute().parent.is_dir():
            raise ConfigurationError(f"database {parsed.database}: its folder does not exist; create it first")
        parsed = parsed.set(drivername="sqlite")
        try:
            engine = create_engine(parsed, connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False})
        except ValueError as error:
            raise ConfigurationError(f"database URL: a parameter behind its `?` does not fit ({error})") from error
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        parameters: dict[str, Any] = {name: value for name, value in LIBPQ_DEFAULTS.items() if name not in parsed.query}
        parsed = parsed.set(drivername="postgresql+psycopg")
        parameters["prepare_threshold"] = None
        if worker:
            parameters["application_name"] = " ".join([WORKER, *parsed.normalized_query.get("application_name", ())])
        several = "," in str(parsed.get_dialect()().create_connect_args(parsed)[1].get("host", ""))
        if several and not ("target_session_attrs" in parsed.query or "PGTARGETSESSIONATTRS" in os.environ):
            parameters["target_session_attrs"] = "read-write"
        engine = create_engine(parsed, pool_pre_ping=True, pool_size=10, connect_args=parameters)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"PostgreSQL needs {error.name}; run: pip install 'tagmill[postgres]'") from error
    primary_of(f"{parsed.host}:{parsed.port}/{parsed.database}?{parsed.query}").watch(engine, writes=several)
    event.listen(engine, "handle_error", _on_error)
    return engine


def terminate_silent(engine: Engine, seconds: float) -> int:
    """End connections of workers that have sent nothing for `seconds` inside a transaction; return their number.

    A worker that freezes in the middle of a COPY (see `tagmill.db.bulk`) or of a pipeline would hold its locks forever:
    while PostgreSQL waits for the rest, it counts the connection as active, not as idle in a transaction.
    """
    if engine.dialect.name != "postgresql":
        return 0
    with engine.begin() as connection:
        return int(connection.execute(_END_SILENT, {"seconds": seconds, "worker": WORKER}).scalar_one())


@contextmanager
def reading(engine: Engine, *, snapshot: bool = True) -> Iterator[Connection]:
    """Open a connection that reads one consistent snapshot; on SQLite it does not wait for a writer.

    Without `snapshot`, PostgreSQL runs each lookup without a transaction, which saves two round trips of three.
    """
    options: dict[str, Any] = {"tagmill_read": True}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ" if snapshot else "AUTOCOMMIT"
    with engine.connect().execution_options(**options) as connection:
        yield connection


def look_up_by_index(connection: Connection) -> None:
    """Have PostgreSQL read no whole table, and compile no statement, until the end of the transaction.

    Its plans follow statistics. Without any, as when a run has just ended, it expects tables of a few rows, and would
    read all of them for each page. If most rows fulfill a condition, it expects to meet one at once, and reads all of
    them if there is none.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)")


def database_time(engine: Engine) -> float:
    """Return the time in Unix seconds by the database's clock."""
    with reading(engine) as connection:
        return float(connection.execute(select(epoch_now())).scalar_one())


def insert_ignore(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an INSERT that skips rows whose key exists already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


class first_ids(FunctionElement[bool]):  # noqa: N801 - reads like the SQL condition
    """The condition that the column `key` is one of the ids that the SELECT `chosen` returns, which is run once.

    PostgreSQL runs a subquery of an IN that locks rows once for each outer row, or joins it by reading the whole table,
    whatever its statistics promise. An array from a subquery is made once, and then looked up in the index of `key`.

    It has no type, as `tagmill.db.any_of.any_of`.
    """

    inherit_cache = True

    def __init__(self, key: Column[int], chosen: Select[tuple[int]]) -> None:
        super().__init__(key, chosen.correlate(None).scalar_subquery())


@compiles(first_ids, "postgresql")
def _first_ids_postgresql(element: first_ids, compiler: SQLCompiler, **kw: Any) -> str:
    key, chosen = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{key} = ANY (ARRAY{chosen})"


@compiles(first_ids, "sqlite")
def _first_ids_sqlite(element: first_ids, compiler: SQLCompiler, **kw: Any) -> str:
    key, chosen = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{key} IN {chosen}"


def _on_error(context: ExceptionContext) -> None:
    """Raise DatabaseRefusedError for a refusal. A server that became read-only is connected to no longer."""
    # PgBouncer may let a client in and refuse its first statement, as a protocol violation.
    error, state = context.original_exception, getattr(context.original_exception, "sqlstate", None)
    if state == "25006":
        context.is_disconnect = True  # with all connections of the pool: another host may take writes
    if state == "42501":
        raise DatabaseRefusedError(f"the database refuses a statement ({first_line(error)}); {_RIGHTS}")
    while_connecting = context.connection is None and state is None
    if (while_connecting or state == "08P01") and (reason := refusal(error)):
        raise DatabaseRefusedError(reason)


def _configure_sqlite(connection: Any, record: object) -> None:
    # The driver would begin a transaction late and as a reader: see _begin_sqlite.
    connection.isolation_level = None
    # SQLite has `unhex` since 3.41, Debian 12 an older one.
    connection.create_function("tagmill_unhex", 1, bytes.fromhex, deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts as a reader and then writes fails at once if another one writes; BEGIN IMMEDIATE waits.
    reads = connection.get_execution_options().get("tagmill_read", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

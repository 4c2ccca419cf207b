"""Notice that another PostgreSQL is the primary now, and refuse a former one.

A promotion raises the timeline of the server by one. It is read whenever a connection is opened, and whenever one is
taken from the pool: behind a pooler the server changes without a new connection. There it is read once more when a
transaction begins, which PgBouncer may hold back until there is a primary again. With asynchronous replication, the
new primary may lack the last transactions and give their ids to other rows. So the first statement that meets it fails
as in an outage, and what this process remembers of ids is dropped.
"""

import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

#: the first eight hexadecimal digits of a WAL file are the timeline; "" on a standby
_TIMELINE = "CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
_SERVER = f"{_TIMELINE}, (SELECT system_identifier FROM pg_control_system()), pg_backend_pid()"
#: seconds in which another host must answer whether it is a primary, too
_LOOK_SECONDS = 2
#: what drops the ids that this process remembers
_forget: list[Callable[[], object]] = []


class _Server(NamedTuple):
    """A primary: a cluster of PostgreSQL, and how often it was promoted."""

    system: int
    timeline: int


def forget_at_failover(forget: Callable[[], object]) -> None:
    """Have `forget` called when another server is the primary."""
    _forget.append(forget)


@cache
def primary_of(database: str) -> "Primary":
    """Return what this process knows of the primary of a database, which its engines share."""
    return Primary()


class Primary:
    """The newest primary of one database that this process has met."""

    def __init__(self) -> None:
        #: None until the first connection, and if the server does not tell
        self._known: _Server | None = None
        #: whether a connection broke since the other hosts were last asked
        self._doubted = True
        #: whether a pooler stands between: its connections have other process ids than those to the server
        self._pooled = False
        self._lock = threading.Lock()

    def watch(self, engine: Engine, *, writes: bool) -> None:
        """Check the server of every connection of an engine. With `writes`, it must be no standby."""
        dialect: Any = engine.dialect
        plain_ping, plain_begin = dialect.do_ping, dialect.do_begin

        def ping(connection: Any) -> bool:
            if self._known is None:
                return bool(plain_ping(connection))
            (timeline,) = _select(connection, _TIMELINE)
            good = int(timeline, 16) == self._known.timeline if timeline else not writes
            self._doubted = self._doubted or not good
            return good

        def begin(pooled: Any) -> None:
            plain_begin(pooled)
            connection, known = pooled.dbapi_connection, self._known
            if not self._pooled or known is None or connection.autocommit:
                return
            # The first statement of the transaction: those that follow get the same server.
            (timeline,) = connection.execute(f"SELECT {_TIMELINE}").fetchone()
            if timeline and int(timeline, 16) != known.timeline:
                connection.rollback()
                if server := self._server_of(dialect, connection):
                    self._meet(dialect, server, connection.info.host)
                raise dialect.loaded_dbapi.OperationalError("the pooler leads to another server; asking again")

        def connect(dialect: Any, record: object, arguments: list[Any], parameters: dict[str, Any]) -> Any:
            return self._connect(dialect, parameters)

        def doubt(context: ExceptionContext) -> None:
            if context.is_disconnect or context.connection is None:
                self._doubted = True

        event.listen(engine, "do_connect", connect)
        event.listen(engine, "handle_error", doubt)
        # It replaces `SELECT 1`, and costs no round trip more. If it is False, the pool connects again.
        dialect.do_ping = ping
        dialect.do_begin = begin

    def _connect(self, dialect: Any, parameters: dict[str, Any]) -> Any:
        connection = dialect.connect(**parameters)
        try:
            server = self._server_of(dialect, connection)
            if server is None:
                return connection
            if self._doubted or self._is_former(server):
                # The first host that takes writes may be a former primary. The one that was promoted last counts.
                for other in _others(dialect, connection, parameters):
                    found = self._server_of(dialect, other)
                    if found and found.timeline > server.timeline:
                        connection, other, server = other, connection, found
                    other.close()
                self._doubted = False  # not before: another thread that connects meanwhile must look, too
            self._meet(dialect, server, connection.info.host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _server_of(self, dialect: Any, connection: Any) -> _Server | None:
        """Return which primary a connection leads to; None for a standby, and for a server that does not tell."""
        try:
            timeline, system, process = _select(connection, _SERVER)
        except dialect.loaded_dbapi.Error:
            if connection.closed:
                raise
            return None
        self._pooled = self._pooled or process != connection.info.backend_pid
        return _Server(int(system), int(timeline, 16)) if timeline else None

    def _is_former(self, server: _Server) -> bool:
        known = self._known
        return known is not None and server.system == known.system and server.timeline < known.timeline

    def _meet(self, dialect: Any, server: _Server, host: str) -> None:
        with self._lock:
            if self._known is None or self._known == server:
                self._known = server
                return
            if self._is_former(server):
                raise dialect.loaded_dbapi.OperationalError(
                    f"the database system on {host} is a former primary: its timeline is {server.timeline}, "
                    f"that of the newest {self._known.timeline}; shut it down"
                )
            self._known = server
            for forget in _forget:
                forget()
        raise dialect.loaded_dbapi.OperationalError(f"the database system has failed over to {host}; asking again")


def _others(dialect: Any, connection: Any, parameters: dict[str, Any]) -> Iterator[Any]:
    """Yield connections to the other hosts that take writes."""
    hosts = str(parameters.get("host", "")).split(",")
    ports = str(parameters.get("port", "")).split(",")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    for host, port in zip(hosts, ports, strict=True):
        if len(hosts) > 1 and (host, port or "5432") != (connection.info.host, str(connection.info.port)):
            try:
                alone = parameters | {"host": host, "port": port or "5432", "connect_timeout": _LOOK_SECONDS}
                other = dialect.connect(**alone)
            except dialect.loaded_dbapi.Error:
                continue  # a standby, or one that is down
            yield other


def _select(connection: Any, columns: str) -> Any:
    before, connection.autocommit = connection.autocommit, True
    try:
        with connection.cursor() as cursor:
            return cursor.execute(f"SELECT {columns}").fetchone()
    finally:
        if not connection.closed:
            connection.autocommit = before

"""Copy the old tables in chunks, each in a short transaction, while others go on using them.

`prepare` creates the new tables and lets triggers log what changes in the old ones from then on. It copies the rows
that are there, and notes after each chunk how far it is: whatever interrupts it, the next call continues there.
`catch_up` copies what the log holds. `finish`, in `finish.py`, is one transaction with exclusive locks: it copies the
rest of the log, drops the old tables, and gives the new ones their names.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Index, Row, inspect, text
from sqlalchemy.exc import OperationalError

from tagmill.db.connection import reading
from tagmill.db.migrations.compact.chosen import Between, Chosen, Key
from tagmill.db.migrations.compact.copy import Copier
from tagmill.db.migrations.compact.tables import PREFIX, new_tables, own_tables
from tagmill.db.migrations.compact.watch import LOCK_MILLISECONDS, WATCHED, changes_left, copy_changes, start_log

#: the schema that this migration starts from
START = "0004"
#: SQLSTATEs of a lock that did not come in time: query_canceled, lock_not_available, deadlock_detected
_BUSY = {"57014", "55P03", "40P01"}
#: seconds between two tries to get locks
_RETRY_SECONDS = 1.0
#: rows of the log that one chunk copies at first, and that may be left for the final transaction
_CHANGES = 200
#: rows of the log that take as long as one batch
_BATCH_ROWS = 60


@dataclass(frozen=True)
class Progress:
    """How far the copy is."""

    #: what is copied now
    stage: str
    #: rows, weighted by how long one takes
    done: float
    total: float


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Pace:
    """How much one transaction copies."""

    #: rows; by default as many as take `seconds`
    rows: int | None = None
    seconds: float = 0.4
    #: seconds between two transactions on SQLite, where a waiting writer looks every 0.1 seconds whether it is free
    pause: float = 0.12


@dataclass(frozen=True)
class _Stage:
    """A table that is copied in the order of one of its columns."""

    name: str
    table: str
    key: str
    #: time of a row, compared with a row of `inference`
    weight: float
    #: rows of the first chunk
    rows: int
    copy: Callable[[Copier, Chosen], None]
    #: whether the log has the rows behind those that exist at the start; else a row may be copied again
    to_goal: bool = True

    @property
    def is_numbered(self) -> bool:
        return self.key == "id"


_STAGES = (
    _Stage("runs", "run", "id", 0.1, 1000, Copier.runs),
    _Stage("results", "inference", "id", 1.0, 500, Copier.results),
    _Stage("images", "image", "sha256", 0.15, 5000, Copier.images, to_goal=False),
    _Stage("files", "file_seen", "identity", 0.2, 2000, Copier.files, to_goal=False),
    _Stage("entries", "batch", "id", 12.0, 20, lambda copier, chosen: copier.batches(chosen, again=False)),
    _Stage("catalog", "run_image", "image_key", 0.5, 1000, Copier.catalog, to_goal=False),
)
#: indexes that are made once their table is filled: they then take less room. On SQLite making one would keep everybody
#: waiting, so all indexes are there from the start.
_FILLED = {"results": ("result", "further_label", "result_mask"), "catalog": ("catalog_entry",)}


class _OvertakenError(Exception):
    """Another process has finished the migration."""


def prepare(engine: Engine, report: Report, pace: Pace) -> None:
    """Copy all but what changes from now on. It continues where an earlier call was interrupted."""
    try:
        _start(engine)
        _Copying(engine, report, pace).run()
    except _OvertakenError:
        return


def catch_up(engine: Engine, pace: Pace) -> None:
    """Copy what the log holds, until what is left fits into the final transaction."""
    rows = few = pace.rows or _CHANGES
    try:
        while True:
            with _reading(engine) as connection:
                if changes_left(connection, few) < few:
                    return
            began = time.monotonic()
            with _chunk(engine) as connection:
                copy_changes(connection, rows, pace.rows or max(1, rows // _BATCH_ROWS))
            rows = pace.rows or _adapted(rows, time.monotonic() - began, pace)
            _pause(engine, pace)
    except _OvertakenError:
        return


def copy_rest(connection: Connection) -> None:
    """Copy everything that was not copied yet, in the caller's transaction, which has locked the old tables."""
    for stage in _STAGES:
        while not _progress(connection, stage).ended:
            _copy_chunk(connection, stage, 10_000)
    while copy_changes(connection, 10_000, 200):
        pass
    for tables in _FILLED.values():
        for table in tables:
            for index in _missing_indexes(connection, table):
                index.create(connection)


def create_tables(connection: Connection) -> None:
    """Create the new tables, and the migration's own."""
    dialect = connection.dialect.name
    own_tables().create_all(connection)
    tables = new_tables(dialect, PREFIX)
    if dialect == "postgresql":
        for name in (name for names in _FILLED.values() for name in names):
            tables.tables[name].indexes.clear()
    tables.create_all(connection)


def start_stages(connection: Connection) -> None:
    """Note up to which row each table is copied. No other transaction may be changing the old tables."""
    for stage in _STAGES:
        goal = None
        if stage.to_goal:
            goal = connection.execute(text(f"SELECT max({stage.key}) FROM {stage.table}")).scalar_one()
        row = {
            "stage": stage.name,
            "goal": None if goal is None else str(goal),
            "expected": _size(connection, stage.table),
            "ended": stage.to_goal and goal is None,
        }
        connection.execute(text(_NEW_STAGE), row)


_NEW_STAGE = """
INSERT INTO upgrade_progress (stage, goal, copied, expected, ended) VALUES (:stage, :goal, 0, :expected, :ended)
"""


def _missing_indexes(connection: Connection, table: str) -> list[Index]:
    """Return the indexes that a table lacks."""
    wanted = sorted(new_tables(connection.dialect.name).tables[table].indexes, key=lambda found: str(found.name))
    return [found for found in wanted if not inspect(connection).has_index(table, str(found.name))]


def has_tables(connection: Connection) -> bool:
    """Return whether the new tables exist."""
    return inspect(connection).has_table("upgrade_progress")


def is_started(connection: Connection) -> bool:
    """Return whether the copy was begun."""
    first = text("SELECT stage FROM upgrade_progress LIMIT 1")
    return has_tables(connection) and connection.execute(first).first() is not None


def is_busy(error: OperationalError) -> bool:
    """Return whether a lock did not come in time."""
    return getattr(error.orig, "sqlstate", None) in _BUSY


class _Copying:
    """The copy of all stages by one process."""

    def __init__(self, engine: Engine, report: Report, pace: Pace) -> None:
        self._engine, self._report, self._pace = engine, report, pace
        #: stage -> rows copied, rows expected
        self._rows: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        with _reading(self._engine) as connection:
            found = {stage.name: _progress(connection, stage) for stage in _STAGES}
            indexes = {table: _missing_indexes(connection, table) for tables in _FILLED.values() for table in tables}
        self._rows = {name: (row.copied, row.copied if row.ended else row.expected) for name, row in found.items()}
        for stage in _STAGES:
            if not found[stage.name].ended:
                self._copy(stage)
            for table in _FILLED.get(stage.name, ()):
                for index in indexes[table]:
                    with _chunk(self._engine) as connection:
                        index.create(connection, checkfirst=True)
        if self._engine.dialect.name == "postgresql":
            for table in new_tables("postgresql", PREFIX).tables:  # the new version needs statistics from the start
                with _chunk(self._engine) as connection:
                    connection.execute(text(f"ANALYZE {table}"))

    def _copy(self, stage: _Stage) -> None:
        rows = self._pace.rows or stage.rows
        while True:
            began = time.monotonic()
            with _chunk(self._engine) as connection:
                if _progress(connection, stage).ended:
                    break
                copied = _copy_chunk(connection, stage, rows)
            self._rows[stage.name] = (copied, max(copied, self._rows[stage.name][1]))
            self._tell(stage)
            rows = self._pace.rows or _adapted(rows, time.monotonic() - began, self._pace)
            _pause(self._engine, self._pace)
        self._rows[stage.name] = (self._rows[stage.name][0],) * 2
        self._tell(stage)

    def _tell(self, stage: _Stage) -> None:
        weights = {found.name: found.weight for found in _STAGES}
        done, total = (sum(weights[name] * rows[at] for name, rows in self._rows.items()) for at in (0, 1))
        self._report(Progress(stage.name, done, total))


def _start(engine: Engine) -> None:
    """Create the new tables, and start the log once no transaction is changing the old tables."""
    while True:
        with _reading(engine) as connection:
            if is_started(connection):
                return
            created = has_tables(connection)
        try:
            with _chunk(engine) as connection:
                if not created and not has_tables(connection):
                    create_tables(connection)
                elif created and not is_started(connection):
                    lock(connection, WATCHED, "SHARE ROW EXCLUSIVE")
                    start_log(connection)
                    start_stages(connection)
        except OperationalError as error:
            if not is_busy(error):
                raise
            time.sleep(_RETRY_SECONDS)


def lock(connection: Connection, tables: tuple[str, ...], mode: str) -> None:
    """Lock tables on PostgreSQL. Raise an error that `is_busy` knows if that takes too long: others wait behind it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = {LOCK_MILLISECONDS}"))
        connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN {mode} MODE"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))


@contextmanager
def _chunk(engine: Engine) -> Iterator[Connection]:
    """Open the transaction of a chunk. Only one process has one at a time."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # on SQLite `begin` has taken the write lock
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            # The tables grow faster than their statistics: without this, PostgreSQL prefers reading all of them. If the
            # server dies, the last chunks are copied again.
            for setting in ("random_page_cost = 1.1", "jit = off", "synchronous_commit = off"):
                connection.execute(text(f"SET LOCAL {setting}"))
        _require_start(connection)
        yield connection


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    with reading(engine) as connection:
        _require_start(connection)
        yield connection


def _require_start(connection: Connection) -> None:
    if connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() != START:
        raise _OvertakenError


#: key of the advisory lock: the letters "compact"
_LOCK = int.from_bytes(b"compact", "big")


def _progress(connection: Connection, stage: _Stage) -> Row[tuple[str | None, str | None, int, int, bool]]:
    statement = text("SELECT mark, goal, copied, expected, ended FROM upgrade_progress WHERE stage = :stage")
    return connection.execute(statement, {"stage": stage.name}).one()


def _copy_chunk(connection: Connection, stage: _Stage, rows: int) -> int:
    """Copy the rows behind the mark, and move it; return how many rows of the stage were copied so far."""
    at = _progress(connection, stage)
    after, goal = _key(stage, at.mark), _key(stage, at.goal)
    conditions = [f"{stage.key} > :after"] * (after is not None) + [f"{stage.key} <= :goal"] * (goal is not None)
    next_keys = f"SELECT {stage.key} AS row_key FROM {stage.table} WHERE {' AND '.join(conditions) or '1 = 1'}"
    found = connection.execute(
        text(f"SELECT max(row_key) AS last, count(*) AS rows FROM ({next_keys} ORDER BY 1 LIMIT :rows) AS found"),
        {name: value for name, value in (("after", after), ("goal", goal)) if value is not None} | {"rows": rows},
    ).one()
    if found.last is not None:
        stage.copy(Copier(connection), Between(after, found.last))
    copied = int(at.copied + found.rows)
    change = {"mark": at.mark if found.last is None else str(found.last), "copied": copied}
    connection.execute(text(_MOVE), change | {"ended": found.rows < rows, "stage": stage.name})
    return copied


_MOVE = "UPDATE upgrade_progress SET mark = :mark, copied = :copied, ended = :ended WHERE stage = :stage"


def _key(stage: _Stage, stored: str | None) -> Key | None:
    return stored if stored is None or not stage.is_numbered else int(stored)


def _size(connection: Connection, table: str) -> int:
    """Return about how many rows a table has."""
    if connection.dialect.name == "postgresql":
        known = connection.execute(
            text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)"), {"name": table}
        )
        estimate = known.scalar_one()
        if estimate > 0:
            return int(estimate)
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def _adapted(rows: int, seconds: float, pace: Pace) -> int:
    """Return how many rows the next chunk should have."""
    factor = min(1.5, max(0.3, pace.seconds / max(seconds, 1e-3)))
    return max(10, min(50_000, round(rows * factor)))


def _pause(engine: Engine, pace: Pace) -> None:
    if engine.dialect.name == "sqlite":
        time.sleep(pace.pause)

"""Record how PostgreSQL runs the statements of an engine: their plans, and how many blocks they read."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, event

_EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
_READ_OR_WRITE = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
#: psycopg's parameters, named or not, and its escaped percent sign
_PARAMETER = re.compile(r"%(?:\((?P<name>\w+)\))?[sbt]|%%")

Parameters = Any


@dataclass(frozen=True)
class Explained:
    """A statement that ran, and how."""

    statement: str
    #: whether it was planned for any values of its parameters, as a prepared statement may be
    generic: bool
    plan: dict[str, Any]

    @property
    def nodes(self) -> Iterator[dict[str, Any]]:
        """Return every node of the plan."""
        return _nodes(self.plan)

    @property
    def blocks(self) -> int:
        """Return the number of blocks that it read, from the cache or the disk; a block counts each time."""
        return int(self.plan["Shared Hit Blocks"] + self.plan["Shared Read Blocks"])

    def __str__(self) -> str:
        kind = "generic plan" if self.generic else "plan for these values"
        return "\n".join([f"{kind}, {self.blocks} blocks:", " ".join(self.statement.split()), *_lines(self.plan)])


@dataclass
class Recorder:
    """The statements that were run while it recorded."""

    statements: list[Explained] = field(default_factory=list)

    def take(self) -> list[Explained]:
        """Return what was recorded since the last call."""
        found, self.statements = self.statements, []
        return found


@contextmanager
def recording(engine: Engine) -> Iterator[Recorder]:
    """Explain every statement of the engine before it runs: each is run twice more, and what it wrote is undone."""
    recorder = Recorder()

    class _Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Parameters = None, **options: Any) -> Any:
            recorder.statements += explain(self.connection, query, params)
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Iterable[Parameters], **options: Any) -> None:
            rows = list(params_seq)
            recorder.statements += explain(self.connection, query, rows[0])
            super().executemany(query, rows, **options)

    def use(raw: Any, record: object) -> None:
        raw.cursor_factory = _Cursor

    engine.dispose()
    event.listen(engine, "connect", use)
    try:
        yield recorder
    finally:
        event.remove(engine, "connect", use)
        engine.dispose()


def explain(connection: Any, query: Any, params: Parameters = None) -> list[Explained]:
    """Return how a statement runs with its values, and by a plan for any values; undo what it writes."""
    if not isinstance(query, str) or not _READ_OR_WRITE.match(query):
        return []
    cursor = psycopg.Cursor(connection)
    with connection.transaction(force_rollback=True):
        plan = cursor.execute(_EXPLAIN + query, params).fetchone()[0][0]["Plan"]
    found = [Explained(query, False, plan)]
    if params:
        numbered, values = _numbered(query, params)
        literals = sql.SQL(", ").join(map(sql.Literal, values))
        with connection.transaction(force_rollback=True):
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            cursor.execute(f"PREPARE explained AS {numbered}")
            execute = sql.SQL(_EXPLAIN + "EXECUTE explained ({})").format(literals)
            found.append(Explained(query, True, cursor.execute(execute).fetchone()[0][0]["Plan"]))
            cursor.execute("DEALLOCATE explained")
    return found


def _numbered(query: str, params: Parameters) -> tuple[str, list[Any]]:
    """Return a statement with $1, $2, ... as parameters, and their values in order."""
    names: list[Any] = []

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        name = found["name"] or len(names)
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    numbered = _PARAMETER.sub(number, query)
    return numbered, [params[name] for name in names]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _lines(plan: dict[str, Any], indent: int = 2) -> Iterator[str]:
    facts = [str(plan[name]) for name in ("Subplan Name", "Node Type", "Relation Name", "Index Name") if name in plan]
    facts += [f"{name}: {plan[name]}" for name in ("Index Cond", "Filter", "Rows Removed by Filter") if name in plan]
    rows = f"{plan['Plan Rows']} rows expected, {plan['Actual Rows']} found in each of {plan['Actual Loops']}"
    yield " " * indent + ", ".join([*facts, rows])
    for part in plan.get("Plans", ()):
        yield from _lines(part, indent + 2)

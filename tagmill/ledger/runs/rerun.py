"""Choose the entries of a manifest that are to be tagged again: those that lack a tag, or failed last time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    func,
    select,
)

from tagmill.db.any_of import any_of
from tagmill.db.bulk import upsert_rows
from tagmill.db.connection import reading
from tagmill.db.schema import (
    BatchStatus,
    RunState,
    batch,
    catalog_entry,
    entry,
    image_failure,
    model,
    run,
    run_model,
    shown_entry,
)
from tagmill.errors import NothingToDo
from tagmill.ledger.repeats.batches import chunks
from tagmill.records import Entry

if TYPE_CHECKING:  # it reads bundles with NumPy, which takes longer to import than a status takes
    from tagmill.registry.models import Model

#: keys of one lookup
LOOKUP = 500
#: positions of a run that are read at a time
PAGE = 2048

#: The keys that failed in the newest run that has an outcome for them, and that run. Of one transaction: a pooler gives
#: each transaction another connection.
_failed_key = Table(
    "failed_key",
    MetaData(),
    Column("image_key", Text, primary_key=True),
    Column("run_id", Integer, nullable=False),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
_FAILED = select(_failed_key.c.image_key, _failed_key.c.run_id).where(any_of(_failed_key.c.image_key, "keys"))
_FORGET = delete(_failed_key).where(any_of(_failed_key.c.image_key, "keys"), _failed_key.c.run_id < bindparam("run"))
#: failures are read run by run, the oldest first
_NEWEST = "ON CONFLICT (image_key) DO UPDATE SET run_id = excluded.run_id"
_TAGGED = select(catalog_entry.c.image_key, catalog_entry.c.run_id).where(any_of(catalog_entry.c.image_key, "keys"))
_KEYS = select(entry.c.image_key).where(
    entry.c.run_id == bindparam("run"), entry.c.position.between(bindparam("first"), bindparam("last"))
)
_KEYS_AT = _KEYS.where(any_of(entry.c.position, "positions"))
_LAST = select(entry.c.position).where(entry.c.run_id == bindparam("run")).order_by(entry.c.position.desc()).limit(1)
_NEXT_FAILED = select(func.min(image_failure.c.run_id)).where(image_failure.c.run_id > bindparam("last"))
#: in the order of the index over run and end, which is then the one that is used
_UNFINISHED = (
    select(batch.c.id)
    .where(
        batch.c.run_id == bindparam("run"),
        batch.c.finished_at.is_(None),
        batch.c.status.in_((BatchStatus.QUEUED, BatchStatus.RUNNING)),
    )
    .order_by(batch.c.finished_at)
    .limit(1)
)

#: returns those of some keys that are to be tagged again
_Choose = Callable[[list[str]], set[str]]


class Rerun(StrEnum):
    """Which entries of a manifest are queued."""

    #: those whose key the catalog does not show for every model of the run
    MISSING = "missing"
    #: those whose key failed in the newest run that has it
    FAILED = "failed"
    #: every one
    ALL = "all"


class Chooser:
    """Chooses entries, and counts those that it leaves out."""

    def __init__(self, engine: Engine, rerun: Rerun, models: "Sequence[Model]") -> None:
        self._engine = engine
        self._rerun = rerun
        self._models = models
        self.left_out = 0

    def choose(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries to be tagged again, in their order. Memory does not depend on their number.

        Raise NothingToDo if there are entries, and none of them is to be tagged again.
        """
        if self._rerun is Rerun.ALL:
            yield from entries
            return
        chosen = 0
        with self._lookup() as wanted:
            for some in chunks(entries, LOOKUP):
                keys = wanted([found.image_key for found in some])
                again = [found for found in some if found.image_key in keys]
                chosen += len(again)
                self.left_out += len(some) - len(again)
                yield from again
        if self.left_out and not chosen:
            raise NothingToDo(f"nothing to do: {self.reason()}")

    def reason(self) -> str:
        """Return why entries were left out, in words."""
        named = ", ".join(f"{found.name}@{found.version}" for found in self._models)
        of_one = f"entries that {named} has tagged" if len(self._models) == 1 else f"entries that {named} have tagged"
        what = of_one if self._rerun is Rerun.MISSING else "entries that did not fail in the newest run that has them"
        return f"{self.left_out} {what} were left out"

    @contextmanager
    def _lookup(self) -> Iterator[_Choose]:
        if self._rerun is Rerun.MISSING:
            with reading(self._engine, snapshot=False) as connection:
                yield lambda keys: _missing(connection, keys, [found.id for found in self._models])
            return
        # A connection of its own: on SQLite, temporary tables can be written to beside the transaction of the new run.
        with self._engine.connect().execution_options(tagmill_read=True) as connection, connection.begin():
            _failed_key.create(connection)
            try:
                _fill(connection)
                yield lambda keys: _failed(connection, keys)
            finally:
                if connection.dialect.name == "sqlite":
                    _failed_key.drop(connection)


def _missing(connection: Connection, keys: list[str], models: list[int]) -> set[str]:
    """Return the keys that the catalog does not show for each of these models.

    A key that shows a canary, or another version since a promotion, was tagged by the version of its run, too.
    """
    shown = select(shown_entry.c.image_key, shown_entry.c.run_id, shown_entry.c.model_id).where(
        any_of(shown_entry.c.image_key, "keys"),
        shown_entry.c.name_id.in_(select(model.c.name_id).where(model.c.id.in_(models))),
    )
    rows = connection.execute(shown, {"keys": keys}).all()
    of_runs = select(run_model.c.run_id, run_model.c.model_id).where(any_of(run_model.c.run_id, "runs"))
    tagged: dict[int, list[int]] = defaultdict(list)
    for row in connection.execute(of_runs, {"runs": list({row.run_id for row in rows})}) if rows else ():
        tagged[row.run_id].append(row.model_id)
    found = {(row.image_key, number) for row in rows for number in (row.model_id, *tagged[row.run_id])}
    return {key for key in keys if any((key, number) not in found for number in models)}


def _failed(connection: Connection, keys: list[str]) -> set[str]:
    """Return the keys that failed, and that no newer run has tagged."""
    failed = {row.image_key: row.run_id for row in connection.execute(_FAILED, {"keys": keys})}
    tagged = connection.execute(_TAGGED, {"keys": list(failed)}) if failed else ()
    return failed.keys() - {row.image_key for row in tagged if row.run_id > failed[row.image_key]}


def _fill(connection: Connection) -> None:
    """Find the keys that failed in any run, without those that a newer run has queued or in work.

    Each statement is a lookup in one index: joins of these tables would be slow with old statistics.
    """
    failed_runs = list(_runs_with_failures(connection))
    for run_id in failed_runs:
        for positions in _failures(connection, run_id):
            between = {"run": run_id, "first": positions[0], "last": positions[-1], "positions": positions}
            rows = [(key, run_id) for key in connection.execute(_KEYS_AT, between).scalars()]
            upsert_rows(connection, _failed_key, ("image_key", "run_id"), rows, _NEWEST)
    for run_id in _unfinished_runs(connection, failed_runs[0]) if failed_runs else ():
        last = connection.execute(_LAST, {"run": run_id}).scalar_one_or_none()
        for first in range(0, (-1 if last is None else last) + 1, PAGE):
            between = {"run": run_id, "first": first, "last": first + PAGE - 1}
            keys = connection.execute(_KEYS, between).scalars().all()
            connection.execute(_FORGET, {"keys": keys, "run": run_id})


def _runs_with_failures(connection: Connection) -> Iterator[int]:
    """Yield the runs that have failed images, the oldest first."""
    last = 0
    while (last := connection.execute(_NEXT_FAILED, {"last": last}).scalar_one()) is not None:
        yield last


def _unfinished_runs(connection: Connection, after: int) -> list[int]:
    """Return the runs after a run that have batches queued or in work."""
    newer = connection.execute(select(run.c.id).where(run.c.id > after, run.c.state != RunState.CANCELLED)).scalars()
    return [run_id for run_id in newer.all() if connection.execute(_UNFINISHED, {"run": run_id}).first()]


def _failures(connection: Connection, run_id: int) -> Iterator[Sequence[int]]:
    """Yield the positions of a run's failed images in lists of at most `PAGE`, in order."""
    last = -1
    position = image_failure.c.position
    while True:
        page = select(position).where(image_failure.c.run_id == run_id, position > last).order_by(position).limit(PAGE)
        if not (positions := connection.execute(page).scalars().all()):
            return
        yield positions
        last = positions[-1]

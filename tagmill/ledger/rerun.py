"""Choose the entries of a manifest that are to be tagged again: those that lack a tag, or failed last time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, and_, delete, func, insert, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import batch, catalog_entry, entry, image_failure
from tagmill.errors import NothingToDo
from tagmill.ledger.conditions import QUEUED, RUNNING
from tagmill.ledger.repeats.batches import chunks
from tagmill.records import Entry

if TYPE_CHECKING:  # it reads bundles with NumPy, which takes longer to import than a status takes
    from tagmill.registry.models import Model

#: keys of one lookup
LOOKUP = 2000

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
_FAILED = select(_failed_key.c.image_key).where(any_of(_failed_key.c.image_key, "keys"))

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
                yield lambda keys: set(connection.execute(_FAILED, {"keys": keys}).scalars())
            finally:
                if connection.dialect.name == "sqlite":
                    _failed_key.drop(connection)


def _missing(connection: Connection, keys: list[str], models: list[int]) -> set[str]:
    """Return the keys that the catalog does not show for each of these models."""
    shown = select(catalog_entry.c.image_key, catalog_entry.c.model_id).where(
        any_of(catalog_entry.c.image_key, "keys"), catalog_entry.c.model_id.in_(models)
    )
    found = {tuple(row) for row in connection.execute(shown, {"keys": keys})}
    return {key for key in keys if any((key, number) not in found for number in models)}


def _fill(connection: Connection) -> None:
    """Find the failed keys of all runs, without those that a newer run has tagged, has in work, or has queued."""
    newest = func.max(image_failure.c.run_id)
    of_failure = and_(entry.c.run_id == image_failure.c.run_id, entry.c.position == image_failure.c.position)
    keys = select(entry.c.image_key, newest).select_from(image_failure).join(entry, of_failure)
    connection.execute(insert(_failed_key).from_select(["image_key", "run_id"], keys.group_by(entry.c.image_key)))
    tagged = and_(catalog_entry.c.image_key == _failed_key.c.image_key, catalog_entry.c.run_id > _failed_key.c.run_id)
    connection.execute(delete(_failed_key).where(select(catalog_entry.c.run_id).where(tagged).exists()))
    # A batch with a list of positions has gaps, in which the run has other outcomes: none that is older.
    of_batch = and_(
        entry.c.run_id == batch.c.run_id, entry.c.position.between(batch.c.first_position, batch.c.last_position)
    )
    for waiting in (QUEUED, RUNNING):
        later = select(entry.c.image_key).select_from(batch).join(entry, of_batch)
        later = later.join(_failed_key, _failed_key.c.image_key == entry.c.image_key)
        later = later.where(waiting, batch.c.run_id > _failed_key.c.run_id)
        connection.execute(delete(_failed_key).where(_failed_key.c.image_key.in_(later)))

"""Delete runs that ended long ago and that the catalog shows no more; of others, the entries that it shows no more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Engine,
    Integer,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from tagmill.db.any_of import any_of
from tagmill.db.connection import look_up_by_index, reading
from tagmill.db.schema import (
    BatchStatus,
    RunState,
    batch,
    batch_failure,
    batch_outcome,
    canary_entry,
    catalog_entry,
    drift,
    duplicate_image,
    entry,
    image_failure,
    label_set_run,
    repeated_entry,
    repeated_image,
    run,
    run_fault,
    run_model,
)
from tagmill.ledger.batches.conditions import QUEUED_IN_RUN
from tagmill.ledger.batches.positions import positions_of
from tagmill.ledger.pruning.counts import Counts

#: rows of a run, and batches, that one transaction deletes
ROWS, BATCHES = 5_000, 200
#: batches whose entries are compared with the catalog in one transaction
COMPARED = 20
#: rows that belong to an entry, and the column that orders them. Failures go first: then nobody can retry them.
_OF_ENTRIES = (
    (image_failure, image_failure.c.position),
    (entry, entry.c.position),
    (repeated_entry, repeated_entry.c.position),
    (repeated_image, repeated_image.c.first_position),
    (canary_entry, canary_entry.c.position),
    (duplicate_image, duplicate_image.c.group_id),
)
_OF_RUN: BindParameter[int] = bindparam("of", type_=Integer)
#: the rows of a run of few images, but its batches
_DELETE_SMALL = tuple((table, delete(table).where(table.c.run_id == _OF_RUN)) for table, _ in _OF_ENTRIES)
_BATCHES_OF_RUN = select(batch.c.id).where(batch.c.run_id == _OF_RUN)
_DELETE_LAST = (
    *(delete(table).where(table.c.run_id == _OF_RUN) for table in (run_model, run_fault, label_set_run)),
    delete(drift).where(or_(drift.c.run_id == _OF_RUN, drift.c.reference_id == _OF_RUN)),
    delete(run).where(run.c.id == _OF_RUN),
)
_SHOWN = exists().where(catalog_entry.c.run_id == run.c.id)
# An entry that the catalog shows, found by its key.
_ENTRY_SHOWN = exists().where(
    catalog_entry.c.image_key == entry.c.image_key,
    catalog_entry.c.run_id == entry.c.run_id,
    catalog_entry.c.position == entry.c.position,
)
_DELETE_REPLACED = delete(entry).where(
    entry.c.run_id == bindparam("of"), any_of(entry.c.position, "positions"), ~_ENTRY_SHOWN
)
_COUNT_REPLACED = (
    select(func.count())
    .select_from(entry)
    .where(entry.c.run_id == bindparam("of"), any_of(entry.c.position, "positions"), ~_ENTRY_SHOWN)
)
_LEFT = select(entry.c.position).where(entry.c.run_id == bindparam("of"), any_of(entry.c.position, "positions"))


class RunBusyError(Exception):
    """Raised when a run is in work again, or shown again, while it is deleted: the rest of it stays."""


@dataclass(frozen=True)
class OldRun:
    """A run that ended before a time; `shown` says whether the catalog shows any of its entries."""

    id: int
    shown: bool
    images: int


def old_runs(engine: Engine, before: float) -> list[OldRun]:
    """Return the runs that ended before a time, oldest first. The newest run of all is none of them."""
    # SQLite gives the largest number again once its row is gone, and messages and logs name runs and batches.
    last = select(func.coalesce(func.max(batch.c.id), 0)).scalar_subquery()
    holds_last = exists().where(batch.c.run_id == run.c.id, batch.c.id == last)
    newest = or_(run.c.id == select(func.max(run.c.id)).scalar_subquery(), holds_last)
    images = select(func.coalesce(func.sum(batch.c.images), 0)).where(batch.c.run_id == run.c.id).scalar_subquery()
    chosen = select(run.c.id, _SHOWN, images).where(run.c.created_at < before, ~newest, ~_busy(before))
    with reading(engine) as connection:
        look_up_by_index(connection)
        return [OldRun(*row) for row in connection.execute(chosen.order_by(run.c.id))]


def delete_run(engine: Engine, old: OldRun, before: float, counts: Counts) -> None:
    """Delete a run in short transactions. Raise RunBusyError if it is in work or shown again meanwhile."""
    if old.images <= ROWS:  # one transaction instead of nine: there may be thousands of such runs
        with engine.begin() as connection:
            _require_old(connection, old.id, before, unshown=True)
            for table, statement in _DELETE_SMALL:
                deleted = connection.execute(statement, {"of": old.id}).rowcount
                counts.entries += deleted if table is entry else 0
            _delete_some(connection, old.id, connection.execute(_BATCHES_OF_RUN, {"of": old.id}).scalars().all())
            _delete_last(connection, old.id)
    else:
        for table, order in _OF_ENTRIES:
            for deleted in _delete_rows(engine, old.id, before, table, order):
                counts.entries += deleted if table is entry else 0
        _delete_batches(engine, old.id, before)
        with engine.begin() as connection:
            _require_old(connection, old.id, before, unshown=True)
            _delete_last(connection, old.id)
    counts.runs += 1


def thin_run(engine: Engine, old: OldRun, before: float, counts: Counts, *, dry: bool = False) -> None:
    """Delete the tagged entries of a run that the catalog shows no more. Batches with a failed image stay whole."""
    removed, last = 0, -1
    while True:
        with engine.begin() if not dry else reading(engine) as connection:
            if dry:
                look_up_by_index(connection)
            else:
                _require_old(connection, old.id, before, unshown=False)
            rows = _tagged_batches(connection, old.id, last)
            if not rows:
                break
            last = rows[-1].seq
            for row in rows:
                removed += _count_replaced(connection, old.id, row) if dry else _thin_batch(connection, old.id, row)
    counts.entries += removed
    counts.thinned_runs += removed > 0


def _busy(before: float) -> Any:
    """Return the condition that a run has work left, or that a batch of it was in work since a time.

    Of a run that is done, both parts find nothing in the index over run and end, however many batches it has.
    """
    of_run = batch.c.run_id == run.c.id
    waits = and_(QUEUED_IN_RUN, run.c.state != RunState.CANCELLED)
    unfinished = or_(batch.c.status == BatchStatus.RUNNING, waits, batch.c.started_at >= before)
    return or_(
        exists().where(of_run, batch.c.finished_at >= before),
        exists().where(of_run, batch.c.finished_at.is_(None), unfinished),
    )


def _require_old(connection: Connection, run_id: int, before: float, *, unshown: bool) -> None:
    """Lock a run, as commands that change it do. Raise RunBusyError if it must stay.

    What follows in the transaction reads no whole table.
    """
    look_up_by_index(connection)
    found = select(run.c.id).where(run.c.id == run_id).with_for_update()
    if connection.execute(found).scalar_one_or_none() is None:
        raise RunBusyError  # another prune has deleted it
    stays = or_(_busy(before), _SHOWN) if unshown else _busy(before)
    if connection.execute(select(run.c.id).where(run.c.id == run_id, stays)).scalar_one_or_none() is not None:
        raise RunBusyError


def _delete_rows(engine: Engine, run_id: int, before: float, table: Table, order: Any) -> Iterator[int]:
    """Delete the rows of a run in a table; yield how many each transaction deleted.

    Each begins behind the rows of the one before: PostgreSQL would pass over all that are deleted to find the first.
    """
    mine, start = table.c.run_id == run_id, 0
    while True:
        left = and_(mine, order >= start)
        with engine.begin() as connection:
            _require_old(connection, run_id, before, unshown=True)
            ordered = select(order).where(left).order_by(order)
            first = connection.execute(ordered.limit(1)).scalar_one_or_none()
            if first is None:
                return
            bound = connection.execute(ordered.offset(ROWS).limit(1)).scalar_one_or_none()
            # A group of duplicates may be larger than a transaction is meant to be.
            end = None if bound is None else max(bound, first + 1)
            part = left if end is None else and_(left, order < end)
            deleted = connection.execute(delete(table).where(part)).rowcount
        yield deleted
        if end is None:
            return
        start = end


def _delete_last(connection: Connection, run_id: int) -> None:
    """Delete a run whose entries and batches are gone."""
    for statement in _DELETE_LAST:
        connection.execute(statement, {"of": run_id})


def _delete_batches(engine: Engine, run_id: int, before: float) -> None:
    """Delete the batches of a run, some in each transaction."""
    last = -1
    while True:
        with engine.begin() as connection:
            _require_old(connection, run_id, before, unshown=True)
            left = select(batch.c.id, batch.c.seq).where(batch.c.run_id == run_id, batch.c.seq > last)
            found = connection.execute(left.order_by(batch.c.seq).limit(BATCHES)).all()
            if not found:
                return
            last = found[-1].seq
            _delete_some(connection, run_id, [row.id for row in found])


def _delete_some(connection: Connection, run_id: int, ids: Sequence[int]) -> None:
    """Delete batches of a run."""
    of_run = and_(batch_failure.c.run_id == run_id, any_of(batch_failure.c.batch_id, "ids"))
    connection.execute(delete(batch_failure).where(of_run), {"ids": ids})
    connection.execute(delete(batch_outcome).where(any_of(batch_outcome.c.batch_id, "ids")), {"ids": ids})
    connection.execute(delete(batch).where(any_of(batch.c.id, "ids")), {"ids": ids})


def _tagged_batches(connection: Connection, run_id: int, last: int) -> Sequence[Any]:
    """Return the next batches of a run that have an outcome and no failure, with the ids of their images."""
    failed = exists().where(batch_failure.c.run_id == run_id, batch_failure.c.batch_id == batch.c.id)
    columns = (batch.c.id, batch.c.seq, batch.c.positions, batch.c.first_position, batch.c.last_position)
    found = (
        select(*columns, batch_outcome.c.image_ids)
        .join(batch_outcome, batch_outcome.c.batch_id == batch.c.id)
        .where(batch.c.run_id == run_id, batch.c.seq > last, batch.c.status == BatchStatus.DONE, ~failed)
    )
    return connection.execute(found.order_by(batch.c.seq).limit(COMPARED)).all()


def _tagged(row: Any) -> list[int]:
    """Return the positions that a batch tagged: a retry may have moved others of its positions to another batch."""
    return [at for at, image in zip(positions_of(row), row.image_ids, strict=True) if image is not None]


def _count_replaced(connection: Connection, run_id: int, row: Any) -> int:
    return int(connection.execute(_COUNT_REPLACED, {"of": run_id, "positions": _tagged(row)}).scalar_one())


def _thin_batch(connection: Connection, run_id: int, row: Any) -> int:
    """Delete the replaced entries of a batch, and their images from its outcome; return how many entries."""
    asked = {"of": run_id, "positions": _tagged(row)}
    removed = connection.execute(_DELETE_REPLACED, asked).rowcount
    left = set(connection.execute(_LEFT, asked).scalars())
    ids = [image if at in left else None for at, image in zip(positions_of(row), row.image_ids, strict=True)]
    mine = batch_outcome.c.batch_id == row.id
    if not left:
        connection.execute(delete(batch_outcome).where(mine))
    elif ids != list(row.image_ids):
        connection.execute(update(batch_outcome).where(mine).values(image_ids=ids))
    return int(removed)

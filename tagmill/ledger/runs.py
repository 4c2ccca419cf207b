"""Create and cancel runs, and take their images again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update

from tagmill.db.bulk import insert_rows, update_rows
from tagmill.db.connection import epoch_now
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, run, run_image, run_model
from tagmill.errors import InputError, NothingToDo
from tagmill.outcomes import ImageStatus
from tagmill.records import Entry
from tagmill.registry.models import Model

#: batches inserted by one statement
INSERT_CHUNK = 64


_ENTRY = ("run_id", "position", "batch_id", "image_key", "uri", "status")


_PENDING = ImageStatus.PENDING.value


Progress = Callable[[int], None]


def create_run(
    engine: Engine,
    source: str,
    entries: Iterable[Entry],
    models: Sequence[Model],
    roots: Sequence[Path],
    batch_size: int,
    queue: str,
    progress: Progress = lambda images: None,
) -> int:
    """Insert run, batches and images; return the run's id. All of it or, where `entries` raises, nothing.

    `progress` is called with the images written so far. Memory does not depend on the number of entries.
    """
    with engine.begin() as connection:
        run_id = _insert_run(connection, source, models, roots, batch_size, queue)
        seq, position = 0, 0
        for chunk in _chunks(entries, INSERT_CHUNK * batch_size):
            batch_ids = insert_batches(connection, run_id, seq, len(chunk), batch_size)
            rows = [
                (run_id, position + number, batch_ids[number // batch_size], entry.image_key, entry.uri, _PENDING)
                for number, entry in enumerate(chunk)
            ]
            insert_rows(connection, run_image, _ENTRY, rows)
            seq, position = seq + len(batch_ids), position + len(chunk)
            progress(position)
        if position == 0:
            raise NothingToDo(f"{source}: no images in it")
    return run_id


def _insert_run(
    connection: Connection, source: str, models: Sequence[Model], roots: Sequence[Path], batch_size: int, queue: str
) -> int:
    statement = insert(run).values(
        source=source,
        parameters={"batch_size": batch_size, "roots": [str(root) for root in roots]},
        queue=queue,
        state=RunState.OPEN,
        created_at=epoch_now(),
    )
    run_id = int(connection.execute(statement.returning(run.c.id)).scalar_one())
    connection.execute(insert(run_model), [{"run_id": run_id, "model_sha256": model.sha256} for model in models])
    return run_id


def insert_batches(connection: Connection, run_id: int, first: int, images: int, batch_size: int) -> list[int]:
    """Insert waiting batches for so many images, numbered from `first`; return their ids in that order."""
    rows = [
        {"seq": first + number, "images": min(batch_size, images - start)}
        | {"run_id": run_id, "status": BatchStatus.QUEUED, "attempts": 0}
        for number, start in enumerate(range(0, images, batch_size))
    ]
    statement = insert(batch).returning(batch.c.id, sort_by_parameter_order=True)
    return list(connection.execute(statement, rows).scalars())


def _chunks(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while chunk := list(islice(remaining, size)):
        yield chunk


#: batches whose counts are put right by one statement
COUNT_CHUNK = 1000


#: images moved by one statement
UPDATE_CHUNK = 10_000


_AGAIN = ("batch_id", "status", "sha256", "error_code", "error_detail")


def cancel_run(engine: Engine, run_id: int) -> int:
    """Take every waiting batch off; return how many. Batches in work are finished; results stay."""
    with engine.begin() as connection:
        _require(connection, run_id)
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.CANCELLED))
        waiting = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED)
        return connection.execute(update(batch).where(waiting).values(status=BatchStatus.CANCELLED)).rowcount


def _require(connection: Connection, run_id: int) -> dict[str, Any]:
    # Locked: of two that retry or cancel a run at once, the second one sees what the first one did.
    found = select(run.c.parameters).where(run.c.id == run_id).with_for_update(key_share=True)
    parameters = connection.execute(found).scalar_one_or_none()
    if parameters is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    return dict(parameters)


def _rebatch(connection: Connection, run_id: int, positions: Sequence[int], batch_size: int) -> None:
    last = connection.execute(select(func.max(batch.c.seq)).where(batch.c.run_id == run_id)).scalar_one()
    batch_ids = insert_batches(connection, run_id, last + 1, len(positions), batch_size)
    rows = [
        (batch_ids[number // batch_size], ImageStatus.PENDING, None, None, None, run_id, at)
        for number, at in enumerate(positions)
    ]
    for start in range(0, len(rows), UPDATE_CHUNK):
        update_rows(connection, run_image, _AGAIN, ("run_id", "position"), rows[start : start + UPDATE_CHUNK])


def _count_again(connection: Connection, run_id: int, batches: Sequence[int]) -> None:
    """Put the counts of batches right after images were taken out of them."""
    for start in range(0, len(batches), COUNT_CHUNK):
        chosen = batches[start : start + COUNT_CHUNK]
        mine = run_image.c.batch_id.in_(chosen)
        left = select(func.count()).where(run_image.c.batch_id == batch.c.id).scalar_subquery()
        connection.execute(update(batch).where(batch.c.id.in_(chosen)).values(images=left))
        of_these = and_(batch_failure.c.run_id == run_id, batch_failure.c.batch_id.in_(chosen))
        connection.execute(delete(batch_failure).where(of_these))
        key = (run_image.c.run_id, run_image.c.batch_id, run_image.c.error_code)
        failed = select(*key, func.count()).where(mine, run_image.c.status == ImageStatus.FAILED).group_by(*key)
        connection.execute(insert(batch_failure).from_select(list(batch_failure.c.keys()), failed))

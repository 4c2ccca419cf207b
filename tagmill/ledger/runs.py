"""Create, cancel and retry runs, and mark their batches as published."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update

from tagmill.db.bulk import insert_rows, update_rows
from tagmill.db.connection import epoch_now, reading, run_once
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, run, run_image, run_model
from tagmill.errors import InputError, NothingToDo
from tagmill.outcomes import ErrorCode, ImageStatus
from tagmill.records import Entry
from tagmill.registry.models import Model

#: prefix of the queues of `tagmill tag`, which no worker serves: see worker/local/tag.py
LOCAL_QUEUE_PREFIX = "embedded-"
#: batches inserted by one statement
INSERT_CHUNK = 64
#: batches whose counts one statement recomputes
COUNT_CHUNK = 1000
#: images that one statement moves to other batches
UPDATE_CHUNK = 10_000

_ENTRY = ("run_id", "position", "batch_id", "image_key", "uri", "status")
_REQUEUED = ("batch_id", "status", "sha256", "error_code", "error_detail")
_PENDING = ImageStatus.PENDING.value

#: called with the number of images written so far
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
    """Insert a run with its batches and images in one transaction; return its id.

    If `entries` raises, nothing is written. Raise NothingToDo if there are no entries. Memory does not depend on their
    number.
    """
    with engine.begin() as connection:
        run_id = _insert_run(connection, source, models, roots, batch_size, queue)
        seq, position = 0, 0
        for chunk in _chunks(entries, INSERT_CHUNK * batch_size):
            batch_ids = _insert_batches(connection, run_id, seq, len(chunk), batch_size)
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


def mark_published(engine: Engine, run_id: int) -> tuple[int, list[tuple[int, int]]]:
    """Mark the queued batches of a run as published now.

    Return the number of queued batches, and the (run id, batch id) of those to publish. A locked batch is not among
    these: another process publishes or claims it, and waiting for its lock could be a deadlock.
    """
    waiting = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED)
    free = run_once(select(batch.c.id).where(waiting).with_for_update(skip_locked=True))
    mark = update(batch).where(batch.c.id.in_(free)).values(published_at=epoch_now())
    with engine.begin() as connection:
        found = connection.execute(select(func.count()).where(waiting)).scalar_one()
        marked = connection.execute(mark.returning(batch.c.seq, batch.c.id)).all()
    return int(found), [(run_id, row.id) for row in sorted(marked)]


def queue_of(engine: Engine, run_id: int) -> str:
    """Return the queue of a run."""
    with reading(engine) as connection:
        return str(connection.execute(select(run.c.queue).where(run.c.id == run_id)).scalar_one())


def cancel_run(engine: Engine, run_id: int) -> int:
    """Cancel every queued batch of a run; return their number. Running batches are finished; results stay."""
    with engine.begin() as connection:
        _require(connection, run_id)
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.CANCELLED))
        waiting = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED)
        return connection.execute(update(batch).where(waiting).values(status=BatchStatus.CANCELLED)).rowcount


def requeue_images(
    engine: Engine, run_id: int, codes: Sequence[ErrorCode], queue: str, *, failed_only: bool = False
) -> int:
    """Move failed images, and images that a cancelled run left untagged, to new batches; return their number.

    With `codes`, move only images that failed with one of them; with `failed_only`, only failed images. The run is open
    afterwards, on `queue`. Raise NothingToDo if there is no such image.
    """
    with_failures = select(batch_failure.c.batch_id).where(batch_failure.c.run_id == run_id)
    failed = and_(run_image.c.status == ImageStatus.FAILED, run_image.c.batch_id.in_(with_failures))
    if codes:
        failed = and_(failed, run_image.c.error_code.in_(codes))
    cancelled = select(batch.c.id).where(batch.c.run_id == run_id, batch.c.status == BatchStatus.CANCELLED)
    # A batch that was running when its run was cancelled, and then failed, is queued in a run that no worker serves.
    stranded = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED, run.c.state == RunState.CANCELLED)
    stranded_ids = select(batch.c.id).join(run, run.c.id == batch.c.run_id).where(stranded)
    left = and_(run_image.c.status == ImageStatus.PENDING, run_image.c.batch_id.in_(cancelled))
    chosen = failed if failed_only or codes else or_(failed, left)
    wanted = select(run_image.c.position, run_image.c.batch_id).where(run_image.c.run_id == run_id, chosen)
    with engine.begin() as connection:
        batch_size = int(_require(connection, run_id)["batch_size"])
        connection.execute(update(batch).where(batch.c.id.in_(stranded_ids)).values(status=BatchStatus.CANCELLED))
        images = connection.execute(wanted.order_by(run_image.c.position)).all()
        if not images:
            raise NothingToDo(f"run {run_id}: no image to take again; see `tagmill run status {run_id}`")
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.OPEN, queue=queue))
        _rebatch(connection, run_id, [row.position for row in images], batch_size)
        _recount(connection, run_id, sorted({row.batch_id for row in images}))
    return len(images)


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


def _insert_batches(connection: Connection, run_id: int, first: int, images: int, batch_size: int) -> list[int]:
    """Insert queued batches for `images` images, numbered from `first`; return their ids in that order."""
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


def _require(connection: Connection, run_id: int) -> dict[str, Any]:
    """Return the parameters of a run and lock it. Raise InputError if there is no such run."""
    # With the lock, the second of two commands that change a run at the same time sees what the first one wrote.
    found = select(run.c.parameters).where(run.c.id == run_id).with_for_update(key_share=True)
    parameters = connection.execute(found).scalar_one_or_none()
    if parameters is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    return dict(parameters)


def _rebatch(connection: Connection, run_id: int, positions: Sequence[int], batch_size: int) -> None:
    last = connection.execute(select(func.max(batch.c.seq)).where(batch.c.run_id == run_id)).scalar_one()
    batch_ids = _insert_batches(connection, run_id, last + 1, len(positions), batch_size)
    rows = [
        (batch_ids[number // batch_size], ImageStatus.PENDING, None, None, None, run_id, at)
        for number, at in enumerate(positions)
    ]
    for start in range(0, len(rows), UPDATE_CHUNK):
        update_rows(connection, run_image, _REQUEUED, ("run_id", "position"), rows[start : start + UPDATE_CHUNK])


def _recount(connection: Connection, run_id: int, batches: Sequence[int]) -> None:
    """Recompute the counts of the batches that images were moved out of."""
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

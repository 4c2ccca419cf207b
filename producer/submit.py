"""Write a run to SQL in one transaction, then put one small message a batch on the queue."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from celery import Celery
from sqlalchemy import Connection, Engine, and_, func, insert, select, update

from producer.manifest import Entry
from tagmill.broker import open_channel, publish
from tagmill.bulk import insert_rows
from tagmill.database import epoch_now, reading, run_once
from tagmill.errors import NothingToDo
from tagmill.outcome import ImageStatus
from tagmill.registry import Model
from tagmill.restore import restore
from tagmill.tables import BatchStatus, RunState, batch, run, run_image, run_model

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


def publish_run(app: Celery, engine: Engine, run_id: int) -> int:
    """Put every waiting batch of a run on the queue; return how many wait.

    The batches are marked first: one whose message is then lost is published again by a worker's reaper. A broker that
    lost those of other runs of the queue is filled up before.
    """
    with reading(engine) as connection:
        queue = connection.execute(select(run.c.queue).where(run.c.id == run_id)).scalar_one()
    with open_channel(app) as channel:
        restore(app, channel, engine, queue)
    waiting = and_(batch.c.run_id == run_id, batch.c.status == BatchStatus.QUEUED)
    # What another has locked is being published or claimed by it: to wait for that could be a deadlock.
    free = run_once(select(batch.c.id).where(waiting).with_for_update(skip_locked=True))
    mark = update(batch).where(batch.c.id.in_(free)).values(published_at=epoch_now())
    with engine.begin() as connection:
        found = connection.execute(select(func.count()).where(waiting)).scalar_one()
        marked = connection.execute(mark.returning(batch.c.seq, batch.c.id)).all()
    publish(app, ((run_id, row.id) for row in sorted(marked)))
    return int(found)


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

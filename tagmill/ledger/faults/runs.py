"""What a run needs and a worker lacks: a folder of its images, or a bundle.

It is the worker's fault as long as another worker may have it: the worker gives the batch back and is out. If no worker
says that it has it for `SEARCH_SECONDS`, being out helps nobody. It is then held: workers go on with other work, and
the batches that need it wait, until a worker has it or `TAGMILL_HOLD_SECONDS` are over. After that, their images fail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, insert, or_, select, update

from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import RunState, batch, entry, model, run, run_fault, run_model
from tagmill.ledger.batches.conditions import DUE, OF_ANY_PRIORITY, QUEUED, WORKED_ON
from tagmill.ledger.faults.workers import KEPT_SECONDS, REPORTED_SECONDS, Fault

#: seconds in which a worker that has it would say so: workers look for it every `worker.health.health.LOOK_SECONDS`
SEARCH_SECONDS = 15.0
#: batches of a queue whose runs a worker checks before it takes one
CHECKED_BATCHES = 200


class Standing(Enum):
    """What follows from a fault."""

    #: another worker may have what is missing: this one is out
    OUT = "out"
    #: no worker has it: the batch waits
    HELD = "held"
    #: it was held for long enough: the images fail
    FINAL = "final"


@dataclass(frozen=True)
class RunFault(Fault):
    """What a run needs and a worker lacks."""

    run_id: int
    #: the sha256 of a bundle, or of a folder's path (`subject_of`)
    subject: str
    #: for a folder: a file that was not found below it
    path: str | None = None


@dataclass(frozen=True)
class Need:
    """What a waiting run needs: folders that its files are below, bundles, and the place of a file of it."""

    run_id: int
    roots: tuple[str, ...]
    models: tuple[str, ...]
    uri: str | None


def subject_of(folder: str) -> str:
    """Return the subject of a fault of a folder."""
    return sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()


def report_run_fault(engine: Engine, fault: RunFault, hold_seconds: float) -> tuple[Standing, float]:
    """Record that a worker lacks what a run needs. Return what follows and, if it is held, until when."""
    now = epoch_now()
    key = and_(run_fault.c.run_id == fault.run_id, run_fault.c.subject == fault.subject)
    with engine.begin() as connection:
        # Two workers that report at once: the second waits for the run's row, and then finds the first one's.
        connection.execute(select(run.c.id).where(run.c.id == fault.run_id).with_for_update(key_share=True))
        known = connection.execute(select(run_fault, now.label("now")).where(key)).one_or_none()
        if known is None:
            row = {"run_id": fault.run_id, "subject": fault.subject, "path": fault.path}
            row |= {"reason": fault.reason.value, "detail": fault.detail}
            connection.execute(insert(run_fault).values(since=now, seen_at=now, **row))
            return Standing.OUT, 0.0
        held_until = known.held_until
        if held_until is None and known.now - max(known.since, known.found_at or 0.0) > SEARCH_SECONDS:
            held_until = known.now + hold_seconds
        seen = {"seen_at": known.now, "detail": fault.detail, "path": fault.path, "held_until": held_until}
        connection.execute(update(run_fault).where(key).values(**seen))
    if held_until is None:
        return Standing.OUT, 0.0
    return (Standing.HELD if held_until > known.now else Standing.FINAL), held_until


def run_faults(engine: Engine, queue: str) -> Sequence[Any]:
    """Return the faults of the open runs of a queue: rows of `run_fault`, with the run's roots.

    Those that no worker has found for long, and those that were final a day ago, are forgotten.
    """
    open_run = and_(run.c.queue == queue, run.c.state == RunState.OPEN)
    joined = select(run_fault, run.c.parameters).join(run, run.c.id == run_fault.c.run_id)
    old = or_(
        and_(run_fault.c.held_until.is_(None), run_fault.c.seen_at < epoch_now() - REPORTED_SECONDS),
        run_fault.c.held_until < epoch_now() - KEPT_SECONDS,
    )
    with reading(engine) as connection:
        rows = connection.execute(joined.add_columns(old.label("old")).where(open_run)).all()
    if any(row.old for row in rows):
        with engine.begin() as connection:
            connection.execute(delete(run_fault).where(old))
    return [row for row in rows if not row.old]


def found_here(engine: Engine, queue: str, run_id: int, subject: str) -> bool:
    """Record that a worker has what others lack. Return whether it was held: its batches are due again then."""
    key = and_(run_fault.c.run_id == run_id, run_fault.c.subject == subject)
    with engine.begin() as connection:
        held_until = connection.execute(select(run_fault.c.held_until).where(key)).scalar_one_or_none()
        if held_until is None:
            connection.execute(update(run_fault).where(key).values(found_at=epoch_now()))
            return False
        connection.execute(delete(run_fault).where(key))
        held = and_(batch.c.queue == queue, OF_ANY_PRIORITY, WORKED_ON, batch.c.not_before == held_until)
        # `+ 0`: in the index over the batches of the queue that wait, not in that over all of the run.
        mine = and_(held, batch.c.run_id + 0 == run_id)
        connection.execute(update(batch).where(mine).values(not_before=epoch_now(), published_at=None))
    return True


def waiting_needs(engine: Engine, queue: str) -> list[Need]:
    """Return what the runs need whose batches are served first of those that may be claimed now."""
    columns = (batch.c.run_id, batch.c.first_position)
    waiting = select(*columns).where(batch.c.queue == queue, QUEUED, DUE)
    waiting = waiting.order_by(batch.c.priority, batch.c.published_at)
    with reading(engine) as connection:
        first: dict[int, int] = {}
        for row in connection.execute(waiting.limit(CHECKED_BATCHES)):
            first.setdefault(row.run_id, row.first_position)
        return [_need(connection, run_id, position) for run_id, position in first.items()]


def some_files(engine: Engine, run_id: int, count: int) -> list[str]:
    """Return the places of some files of a run, from all over it."""
    with reading(engine) as connection:
        last = connection.execute(
            select(entry.c.position).where(entry.c.run_id == run_id).order_by(entry.c.position.desc()).limit(1)
        ).scalar_one_or_none()
        if last is None:
            return []
        chosen = sorted({last * number // max(1, count - 1) for number in range(count)})
        # One lookup each: for several at once, old statistics make PostgreSQL read the whole run.
        return [uri for at in chosen if (uri := _uri(connection, run_id, at)) is not None]


def waits_for(connection: Connection, run_id: int) -> Sequence[dict[str, Any]]:
    """Return what a run waits for: reason, detail, since when, and until when it is held, in Unix seconds or None."""
    now = epoch_now()
    columns = (run_fault.c.reason, run_fault.c.detail, run_fault.c.since, run_fault.c.held_until)
    lately = and_(run_fault.c.held_until.is_(None), run_fault.c.seen_at > now - REPORTED_SECONDS)
    lacking = and_(run_fault.c.run_id == run_id, or_(lately, run_fault.c.held_until > now))
    return [dict(row._mapping) for row in connection.execute(select(*columns).where(lacking).order_by("since"))]


def _need(connection: Connection, run_id: int, position: int) -> Need:
    parameters = connection.execute(select(run.c.parameters).where(run.c.id == run_id)).scalar_one()
    pinned = select(model.c.sha256).join(run_model, run_model.c.model_id == model.c.id)
    models = connection.execute(pinned.where(run_model.c.run_id == run_id)).scalars()
    return Need(run_id, tuple(parameters["roots"]), tuple(models), _uri(connection, run_id, position))


def _uri(connection: Connection, run_id: int, position: int) -> str | None:
    there = and_(entry.c.run_id == run_id, entry.c.position == position)
    return connection.execute(select(entry.c.uri).where(there)).scalar_one_or_none()

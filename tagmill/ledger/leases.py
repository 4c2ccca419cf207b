"""Claim, renew and release batches: each is one compare-and-set transaction.

`tagmill.ledger.complete` finishes a claimed batch. `tagmill.ledger.reaper` requeues a batch whose lease has expired.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Double, Engine, String, and_, bindparam, case, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from tagmill.db.connection import epoch_now, reading, run_once
from tagmill.db.schema import BatchStatus, RunState, batch, run, run_image, run_model
from tagmill.ledger.attempts import SUSPECT_CRASHES, attempts_left
from tagmill.outcomes import ImageStatus, printable
from tagmill.records import PendingImage


@dataclass(frozen=True)
class Lease:
    """The terms of a claim: `token` fences everything written for the batch, `seconds` is how long the claim lasts."""

    token: str
    seconds: float
    max_attempts: int


@dataclass(frozen=True)
class Claim:
    """A batch that this worker owns until its lease ends."""

    batch_id: int
    run_id: int
    token: str
    attempts: int
    #: its worker died too often for chance: it must run in a process of its own
    suspect: bool
    images: tuple[PendingImage, ...]
    #: sha256 of each model of the run
    models: tuple[str, ...]
    #: folders that may be read for this run
    roots: tuple[str, ...]


_Id = int | BindParameter[Any]

# Built once: every batch runs these statements, and building one takes as long as running it.
_WAITING = (
    select(run_image.c.position, run_image.c.uri)
    .where(run_image.c.batch_id == bindparam("batch"), run_image.c.status == ImageStatus.PENDING)
    .order_by(run_image.c.position)
)
_CHOSEN = (
    select(run_model.c.model_sha256, run.c.parameters)
    .join(run, run.c.id == run_model.c.run_id)
    .where(run.c.id == bindparam("run"))
    .order_by(run_model.c.model_sha256)
)


def claim(engine: Engine, run_id: int, batch_id: int, queue: str, lease: Lease) -> Claim | None:
    """Claim a free batch of this run and queue.

    Return None if the batch is done, owned by another worker, not due yet, out of attempts, or of another run or queue.
    Claiming again with the same token, as after a connection that broke at the commit, returns the same claim.
    """
    asked = {"run": run_id, "batch": batch_id, "queue": queue, "token": lease.token, "seconds": lease.seconds}
    with engine.begin() as connection:
        row = connection.execute(_take(lease.max_attempts), asked).one_or_none()
        if row is None:
            return None
        images = tuple(PendingImage(*entry) for entry in connection.execute(_WAITING, {"batch": batch_id}))
        chosen = connection.execute(_CHOSEN, {"run": run_id}).all()
    suspect = row.crashes >= SUSPECT_CRASHES
    models, roots = (tuple(found.model_sha256 for found in chosen), tuple(chosen[0].parameters["roots"]))
    return Claim(batch_id, run_id, lease.token, row.attempts, suspect, images, models, roots)


@lru_cache(maxsize=16)
def _take(max_attempts: int) -> ReturningUpdate[Any]:
    """Return the UPDATE of a claim. It is cached: building it takes as long as running it."""
    token, now = bindparam("token", type_=String()), epoch_now()
    running = batch.c.status == BatchStatus.RUNNING
    mine = and_(running, batch.c.owner == token)
    expired = and_(running, batch.c.lease_until < now)
    due = or_(batch.c.not_before.is_(None), batch.c.not_before <= now)
    crashes = case((and_(expired, batch.c.owner != token), batch.c.crashes + 1), else_=batch.c.crashes)
    free = and_(or_(and_(batch.c.status == BatchStatus.QUEUED, due), expired), attempts_left(max_attempts, crashes))
    open_run = select(run.c.id).where(
        run.c.id == bindparam("run"), run.c.state == RunState.OPEN, run.c.queue == bindparam("queue")
    )
    return (
        update(batch)
        .where(_batch_of(bindparam("run"), bindparam("batch")), or_(mine, free), open_run.exists())
        .values(
            status=BatchStatus.RUNNING,
            attempts=case((mine, batch.c.attempts), else_=batch.c.attempts + 1),
            crashes=crashes,
            owner=token,
            lease_until=now + bindparam("seconds", type_=Double()),
            started_at=now,
        )
        .returning(batch.c.attempts, batch.c.crashes)
    )


def exists(engine: Engine, run_id: int, batch_id: int, queue: str) -> bool:
    """Return whether a batch of this run and queue is in SQL, whatever its status."""
    known = (
        select(batch.c.id)
        .join(run, run.c.id == batch.c.run_id + 0)
        .where(_batch_of(run_id, batch_id), run.c.id == run_id, run.c.queue == queue)
    )
    with reading(engine) as connection:
        return connection.execute(known).one_or_none() is not None


def renew(engine: Engine, tokens: Iterable[str], lease_seconds: float) -> None:
    """Extend the lease of every batch owned by one of `tokens`."""
    held = select(batch.c.id).where(batch.c.owner.in_(list(tokens)), batch.c.status == BatchStatus.RUNNING)
    # A batch that is being completed is locked and needs no lease: renewing the others must not wait for it.
    free = run_once(held.with_for_update(skip_locked=True))
    statement = update(batch).where(batch.c.id.in_(free)).values(lease_until=epoch_now() + lease_seconds)
    with engine.begin() as connection:
        connection.execute(statement)


def release(engine: Engine, claimed: Claim, error: str, delay_seconds: float) -> None:
    """Requeue a batch after a failed attempt; it may be claimed again after the delay."""
    statement = (
        update(batch)
        .where(_owned(claimed))
        .values(
            status=BatchStatus.QUEUED,
            owner=None,
            lease_until=None,
            not_before=epoch_now() + delay_seconds,
            published_at=None,
            error=printable(error),
        )
    )
    with engine.begin() as connection:
        connection.execute(statement)


def _batch_of(run_id: _Id, batch_id: _Id) -> ColumnElement[bool]:
    """Return the condition that finds one batch by its id, if it belongs to the run.

    PostgreSQL has no statistics yet of a run that was just submitted. If a condition allows the index over the run or
    over the status, it may choose that one and read every batch in it; `+ 0` keeps it from the run's.
    """
    return and_(batch.c.id == batch_id, batch.c.run_id + 0 == run_id)


def _owned(claimed: Claim) -> ColumnElement[bool]:
    # Only a running batch has an owner.
    return and_(batch.c.id == claimed.batch_id, batch.c.owner == claimed.token)

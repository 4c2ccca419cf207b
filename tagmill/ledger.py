"""The run ledger in SQL: every change of a batch's status, each one compare-and-set transaction.

Redis only carries hints. Celery on Redis can lose a message, deliver it twice, or deliver it long after its worker
died; the ledger decides who may work on a batch and whose results count.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, or_, select, update

from tagmill.attempts import SUSPECT_CRASHES, attempts_left
from tagmill.batch_result import BatchResult, PendingImage
from tagmill.bulk import insert_rows
from tagmill.database import epoch_now, reading
from tagmill.outcome import ImageStatus
from tagmill.result_rows import write_result
from tagmill.tables import BatchStatus, RunState, batch, batch_failure, file_seen, inference, run, run_image, run_model


@dataclass(frozen=True)
class Lease:
    """Who asks for a batch: `token` fences everything written for it, `seconds` is how long it stays his."""

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
    #: its worker died too often for chance: to be taken in a process of its own
    suspect: bool
    images: tuple[PendingImage, ...]
    #: sha256 of each model of the run
    models: tuple[str, ...]
    #: folders that may be read for this run
    roots: tuple[str, ...]


def claim(engine: Engine, run_id: int, batch_id: int, queue: str, lease: Lease) -> Claim | None:
    """Take a batch of this run and queue that is free to take.

    Returns None where it is done, owned by another, too early or out of attempts, or of another run or queue. Asking
    again with the same token, as after a connection that broke at the commit, gives the same batch.
    """
    now = epoch_now()
    running = batch.c.status == BatchStatus.RUNNING
    mine = and_(running, batch.c.owner == lease.token)
    expired = and_(running, batch.c.lease_until < now)
    due = or_(batch.c.not_before.is_(None), batch.c.not_before <= now)
    crashes = case((and_(expired, batch.c.owner != lease.token), batch.c.crashes + 1), else_=batch.c.crashes)
    free = and_(
        or_(and_(batch.c.status == BatchStatus.QUEUED, due), expired), attempts_left(lease.max_attempts, crashes)
    )
    open_run = select(run.c.id).where(run.c.id == run_id, run.c.state == RunState.OPEN, run.c.queue == queue)
    take = (
        update(batch)
        .where(_batch_of(run_id, batch_id), or_(mine, free), open_run.exists())
        .values(
            status=BatchStatus.RUNNING,
            attempts=case((mine, batch.c.attempts), else_=batch.c.attempts + 1),
            crashes=crashes,
            owner=lease.token,
            lease_until=now + lease.seconds,
            started_at=now,
        )
        .returning(batch.c.attempts, batch.c.crashes)
    )
    with engine.begin() as connection:
        row = connection.execute(take).one_or_none()
        return None if row is None else _claim(connection, run_id, batch_id, lease.token, row)


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
    # A batch that is just being completed is locked by that, and needs no lease: the others must not wait for it.
    free = held.with_for_update(skip_locked=True)
    statement = update(batch).where(batch.c.id.in_(free)).values(lease_until=epoch_now() + lease_seconds)
    with engine.begin() as connection:
        connection.execute(statement)


def release(engine: Engine, claimed: Claim, error: str, delay_seconds: float) -> None:
    """Give a batch back after a failed attempt; it may be claimed again after the delay."""
    statement = (
        update(batch)
        .where(_owned(claimed))
        .values(
            status=BatchStatus.QUEUED,
            owner=None,
            lease_until=None,
            not_before=epoch_now() + delay_seconds,
            published_at=None,
            error=error,
        )
    )
    with engine.begin() as connection:
        connection.execute(statement)


def known_inferences(engine: Engine, shas: Iterable[str], models: Iterable[str]) -> set[tuple[str, str]]:
    """Return the (image sha256, model sha256) pairs that have a result already."""
    statement = select(inference.c.image_sha256, inference.c.model_sha256).where(
        inference.c.image_sha256.in_(list(shas)), inference.c.model_sha256.in_(list(models))
    )
    with reading(engine) as connection:
        return {(row.image_sha256, row.model_sha256) for row in connection.execute(statement)}


def known_files(engine: Engine, identities: Iterable[str]) -> dict[str, str]:
    """Return identity -> sha256 of the files that were hashed before."""
    statement = select(file_seen.c.identity, file_seen.c.sha256).where(file_seen.c.identity.in_(list(identities)))
    with reading(engine) as connection:
        return {row.identity: row.sha256 for row in connection.execute(statement)}


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes and `done` in one transaction.

    Returns False, with nothing written, where the batch was lost to another worker meanwhile.
    """
    codes = Counter(outcome.error_code for outcome in result.outcomes)
    left = {"status": BatchStatus.DONE, "owner": None, "lease_until": None, "finished_at": epoch_now(), "error": None}
    counts = {"tagged": codes.pop(None, 0), "inferences": len(result.inferences)}
    finish = update(batch).where(_owned(claimed)).values(**left, **counts).returning(batch.c.finished_at)
    with engine.begin() as connection:
        now = connection.execute(finish).scalar_one_or_none()
        if now is None:
            return False
        new = write_result(connection, claimed.run_id, claimed.batch_id, result, worker, now)
        if new != counts["inferences"]:  # another worker was first with the same bytes
            connection.execute(update(batch).where(batch.c.id == claimed.batch_id).values(inferences=new))
        if codes:
            rows = [(claimed.run_id, claimed.batch_id, code, images) for code, images in codes.items()]
            insert_rows(connection, batch_failure, ("run_id", "batch_id", "error_code", "images"), rows)
    return True


# One batch is always found by its id. PostgreSQL knows nothing yet of a run that was just submitted: where a condition
# lets it choose the index over the run or over the status, it may read every batch of these instead.


def _batch_of(run_id: int, batch_id: int) -> ColumnElement[bool]:
    return and_(batch.c.id == batch_id, batch.c.run_id + 0 == run_id)


def _owned(claimed: Claim) -> ColumnElement[bool]:
    # only a running batch has an owner
    return and_(batch.c.id == claimed.batch_id, batch.c.owner == claimed.token)


def _claim(connection: Connection, run_id: int, batch_id: int, token: str, row: Any) -> Claim:
    waiting = (
        select(run_image.c.position, run_image.c.uri)
        .where(run_image.c.batch_id == batch_id, run_image.c.status == ImageStatus.PENDING)
        .order_by(run_image.c.position)
    )
    images = tuple(PendingImage(*entry) for entry in connection.execute(waiting))
    chosen = select(run_model.c.model_sha256).where(run_model.c.run_id == run_id).order_by(run_model.c.model_sha256)
    models = tuple(connection.execute(chosen).scalars())
    parameters = connection.execute(select(run.c.parameters).where(run.c.id == run_id)).scalar_one()
    suspect = row.crashes >= SUSPECT_CRASHES
    return Claim(batch_id, run_id, token, row.attempts, suspect, images, models, tuple(parameters["roots"]))

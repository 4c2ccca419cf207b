"""Claim, renew and release batches: each is one compare-and-set transaction.

`tagmill.ledger.complete` finishes a claimed batch. `tagmill.ledger.batches.reaper` requeues a batch whose lease has
expired.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Double,
    Engine,
    String,
    and_,
    bindparam,
    case,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from tagmill.db.any_of import any_of
from tagmill.db.connection import epoch_now, reading
from tagmill.db.outages.failover import forget_at_failover
from tagmill.db.schema import BatchStatus, RunState, batch, entry, model, run, run_model
from tagmill.fetch_options import FetchOptions
from tagmill.ledger.batches.attempts import SUSPECT_CRASHES, attempts_left
from tagmill.ledger.batches.conditions import DUE, QUEUED, RUNNING, update_unlocked
from tagmill.ledger.repeats.outcomes import first_positions
from tagmill.ledger.trials import Trial, trials_of
from tagmill.measuring import Measuring
from tagmill.outcomes import printable
from tagmill.records import PendingImage
from tagmill.registry.rollout.running import ROLLOUTS, Rollout, rollout_of

#: seconds for which a process believes what it read of shadows and canaries
ROLLOUT_SECONDS = 3.0


@dataclass(frozen=True)
class Lease:
    """The terms of a claim: `token` fences everything written for the batch, `seconds` is how long the claim lasts."""

    token: str
    seconds: float
    max_attempts: int


@dataclass(frozen=True)
class PinnedModel:
    """A model of a run, by the numbers that SQL has for it."""

    id: int
    #: NAME@VERSION
    name: str
    sha256: str
    name_id: int
    #: 0 for the newest version of its name in the run, 1 and more for the others
    place: int
    #: whether shadows and canaries of its name run beside it: the run named no version, and has no other one
    follows: bool = False


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
    #: the models of the run, by name and place: all batches write rows of models in this order
    pinned: tuple[PinnedModel, ...]
    #: folders that may be read for this run
    roots: tuple[str, ...]
    #: whether entries of the run repeat the uri of earlier ones
    has_repeats: bool = False
    #: position -> position of the first entry with its uri, for the images that repeat an earlier entry
    repeated: Mapping[int, int] = field(default_factory=dict)
    #: how often the batch waited for first entries
    waits: int = 0
    #: how its images are fetched
    fetching: FetchOptions = field(default_factory=FetchOptions)
    #: what is measured on its pictures
    measuring: Measuring | None = None
    #: of the trace of its submission
    traceparent: str | None = None
    #: seconds since it was published, or since it was due
    waited: float = 0.0
    #: shadows and canaries that tag entries of this batch, too
    trials: tuple[Trial, ...] = ()
    #: sha256 of each of `pinned`
    models: tuple[str, ...] = field(init=False)
    #: the sorted names of `pinned`, as logs and Celery's events show them
    model: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(found.sha256 for found in self.pinned))
        object.__setattr__(self, "model", ", ".join(sorted(found.name for found in self.pinned)))


_Id = int | BindParameter[Any]

#: engine -> when its shadows and canaries were read last, in monotonic seconds, and they
_rollouts_read: WeakKeyDictionary[Engine, tuple[float, Sequence[Rollout]]] = WeakKeyDictionary()

# Built once: every batch runs these statements, and building one takes as long as running it.
_ENTRY = (entry.c.position, entry.c.uri, entry.c.image_key)
_ALL_BETWEEN = (
    select(*_ENTRY)
    .where(entry.c.run_id == bindparam("run"), entry.c.position.between(bindparam("first"), bindparam("last")))
    .order_by(entry.c.position)
)
_EACH_OF = (
    select(*_ENTRY)
    .where(entry.c.run_id == bindparam("run"), any_of(entry.c.position, "positions"))
    .order_by(entry.c.position)
)
_PINNED = (
    select(model.c.id, model.c.name, model.c.sha256, model.c.name_id, model.c.version, run.c.parameters)
    .join(run_model, run_model.c.model_id == model.c.id)
    .join(run, run.c.id == run_model.c.run_id)
    .where(run.c.id == bindparam("run"))
)


def claim(engine: Engine, run_id: int, batch_id: int, queue: str, lease: Lease) -> Claim | None:
    """Claim a free batch of this run and queue.

    Return None if the batch is done, owned by another worker, not due yet, out of attempts, or of another run or queue;
    also if another transaction has its row locked. Whoever that is claims it, ends it, or publishes it again.
    Claiming again with the same token, as after a connection that broke at the commit, returns the same claim.
    """
    asked = {"run": run_id, "batch": batch_id, "served": queue, "token": lease.token, "seconds": lease.seconds}
    with engine.begin() as connection:
        row = connection.execute(_take(lease.max_attempts), asked).one_or_none()
        if row is None:
            return None
        if row.positions is None:
            between = {"run": run_id, "first": row.first_position, "last": row.last_position}
            found: Sequence[Any] = connection.execute(_ALL_BETWEEN, between).all()
        else:
            found = connection.execute(_EACH_OF, {"run": run_id, "positions": row.positions}).all()
    pinned, roots, has_repeats, fetching, measuring, traceparent = _pinned(engine, run_id)
    images = tuple(PendingImage(*one) for one in found)
    repeated = _repeated(engine, run_id, images) if has_repeats else {}
    suspect = row.crashes >= SUSPECT_CRASHES
    rollouts = [found for found in _rollouts(engine) if any(_follows(one, found) for one in pinned)]
    trials = trials_of(engine, run_id, images, rollouts) if rollouts else ()
    return Claim(
        *(batch_id, run_id, lease.token, row.attempts, suspect, images, pinned, roots),
        *(has_repeats, repeated, row.waits, fetching, measuring, traceparent, row.started_at - _queued_at(row), trials),
    )


def _queued_at(row: Any) -> float:
    """Return since when a claimed batch waited; one of a worker that died and was not published again did not wait."""
    return float(row.published_at or row.not_before or row.started_at)


def _follows(pinned: PinnedModel, rollout: Rollout) -> bool:
    return pinned.follows and pinned.name_id == rollout.name_id and pinned.id != rollout.model_id


def _rollouts(engine: Engine) -> Sequence[Rollout]:
    """Return the shadows and canaries that run, as of some seconds ago at most."""
    read_at, found = _rollouts_read.get(engine, (0.0, ()))
    if not read_at or time.monotonic() - read_at > ROLLOUT_SECONDS:
        with reading(engine, snapshot=False) as connection:
            found = tuple(map(rollout_of, connection.execute(ROLLOUTS)))
        _rollouts_read[engine] = (time.monotonic(), found)
    return found


def _repeated(engine: Engine, run_id: int, images: Iterable[PendingImage]) -> dict[int, int]:
    with reading(engine, snapshot=False) as connection:
        return first_positions(connection, run_id, [image.position for image in images])


@lru_cache(maxsize=64)
def _pinned(
    engine: Engine, run_id: int
) -> tuple[tuple[PinnedModel, ...], tuple[str, ...], bool, FetchOptions, Measuring | None, str | None]:
    """Return what never changes of a run: models, roots, whether it has repeats, how it is fetched and measured, and
    the trace of its submission.
    """
    with reading(engine, snapshot=False) as connection:
        rows = connection.execute(_PINNED, {"run": run_id}).all()
    versions = [(row.name_id, row.version) for row in rows]
    places = [sum(1 for name, version in versions if name == row.name_id and version > row.version) for row in rows]
    parameters = rows[0].parameters
    following, names = parameters.get("following", ()), [name for name, _ in versions]
    pinned = tuple(
        PinnedModel(
            *(row.id, f"{row.name}@{row.version}", row.sha256, row.name_id, place),
            follows=row.id in following and names.count(row.name_id) == 1,
        )
        for row, place in zip(rows, places, strict=True)
    )
    ordered = tuple(sorted(pinned, key=lambda found: (found.name_id, found.place)))
    repeats, fetching = bool(parameters.get("repeats")), FetchOptions.from_json(parameters)
    measuring = Measuring.from_json(parameters) if "measure" in parameters else None
    return ordered, tuple(parameters["roots"]), repeats, fetching, measuring, parameters.get("traceparent")


forget_at_failover(_pinned.cache_clear)


@lru_cache(maxsize=16)
def _take(max_attempts: int) -> ReturningUpdate[Any]:
    """Return the UPDATE of a claim. It is cached: building it takes as long as running it."""
    token, now = bindparam("token", type_=String()), epoch_now()
    mine = and_(RUNNING, batch.c.owner == token)
    expired = and_(RUNNING, batch.c.lease_until < now)
    crashes = case((and_(expired, batch.c.owner != token), batch.c.crashes + 1), else_=batch.c.crashes)
    free = and_(or_(and_(QUEUED, DUE), expired), attempts_left(max_attempts, crashes))
    open_run = select(run.c.id).where(
        run.c.id == bindparam("run"), run.c.state == RunState.OPEN, run.c.queue == bindparam("served")
    )
    wanted = select(batch.c.id).where(
        _batch_of(bindparam("run"), bindparam("batch")), or_(mine, free), open_run.exists()
    )
    return (
        update_unlocked(wanted)
        .values(
            status=BatchStatus.RUNNING,
            attempts=case((mine, batch.c.attempts), else_=batch.c.attempts + 1),
            crashes=crashes,
            owner=token,
            lease_until=now + bindparam("seconds", type_=Double()),
            started_at=now,
        )
        .returning(batch.c.attempts, batch.c.crashes, batch.c.waits)
        .returning(batch.c.published_at, batch.c.not_before, batch.c.started_at)
        .returning(batch.c.positions, batch.c.first_position, batch.c.last_position)
    )


def exists(engine: Engine, run_id: int, batch_id: int, queue: str) -> bool:
    """Return whether a batch of this run and queue is in SQL, whatever its status."""
    known = (
        select(batch.c.id)
        .join(run, run.c.id == batch.c.run_id + 0)
        .where(_batch_of(run_id, batch_id), run.c.id == run_id, run.c.queue == queue)
    )
    with reading(engine, snapshot=False) as connection:
        return connection.execute(known).one_or_none() is not None


def renew(engine: Engine, tokens: Iterable[str], lease_seconds: float) -> None:
    """Extend the lease of every batch owned by one of `tokens`."""
    held = select(batch.c.id).where(batch.c.owner.in_(list(tokens)), RUNNING)
    # A batch that is being completed is locked and needs no lease: renewing the others must not wait for it.
    statement = update_unlocked(held).values(lease_until=epoch_now() + lease_seconds)
    with engine.begin() as connection:
        connection.execute(statement)


def release(engine: Engine, claimed: Claim, error: str, delay_seconds: float) -> None:
    """Requeue a batch after a failed attempt; it may be claimed again after the delay."""
    requeue(engine, claimed, epoch_now() + delay_seconds, error=printable(error))


def give_back(
    engine: Engine, claimed: Claim, reason: str, not_before: float | None = None, *, crashed: bool = False
) -> None:
    """Requeue a batch that this worker cannot tag, through no fault of the batch: it costs no attempt.

    It may be claimed again at once, or from `not_before` on, in Unix seconds by the database's clock. `crashed` counts
    a crash: it is not certain that the batch is not to blame, see `tagmill.ledger.batches.attempts`.
    """
    counts = {"crashes": batch.c.crashes + 1} if crashed else {"attempts": batch.c.attempts - 1}
    requeue(engine, claimed, epoch_now() if not_before is None else not_before, error=printable(reason), **counts)


def requeue(engine: Engine, claimed: Claim, not_before: float | ColumnElement[float], **changes: Any) -> None:
    """Set a batch back to queued, with further changes of its row, if it is still owned by this claim."""
    statement = (
        update(batch)
        .where(batch.c.id == claimed.batch_id, batch.c.owner == claimed.token)  # only a running batch has an owner
        .values(
            status=BatchStatus.QUEUED,
            owner=None,
            lease_until=None,
            not_before=not_before,
            published_at=None,
            **changes,
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

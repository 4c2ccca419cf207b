"""Which models workers need now, and what asks for somebody's attention: for checks, not for the path of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select, union

from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import BatchStatus, RunState, batch, rollout, run, run_model
from tagmill.registry.models import Model, Stage, list_models

#: runs that are named; the rest are counted
NAMED = 5
_UNFINISHED = (BatchStatus.QUEUED, BatchStatus.RUNNING)


@dataclass(frozen=True)
class Backlog:
    """The work that waits, and what went wrong with it."""

    #: batches that may be claimed, and how long the first of them has waited, in seconds
    queued: int
    oldest_seconds: float
    #: (run, batches, images) of batches that are out of attempts, the newest runs first; at most `NAMED`
    dead: Sequence[tuple[int, int, int]]
    #: runs with dead batches
    dead_runs: int
    #: paused runs with batches that wait; at most `NAMED`
    paused: Sequence[int]


def needed_models(engine: Engine) -> list[Model]:
    """Return the models whose bundles workers load: in production or tried beside it, of unfinished runs.

    Of a name with nothing in production it is the newest: what NAME without @VERSION means.
    """
    waiting = union(*(select(batch.c.run_id).where(batch.c.status == status) for status in _UNFINISHED)).subquery()
    used = select(run_model.c.model_id).where(run_model.c.run_id.in_(select(waiting.c.run_id)))
    models, ids = _served(engine)
    with reading(engine) as connection:
        ids |= set(connection.execute(used).scalars())
    produced = {found.name for found in models if found.stage is Stage.PRODUCTION}
    newest = {found.name: found.id for found in reversed(models)}
    ids |= {model_id for name, model_id in newest.items() if name not in produced}
    return [found for found in models if found.id in ids]


def served_models(engine: Engine) -> list[Model]:
    """Return the models that are in production or tried beside it."""
    models, ids = _served(engine)
    return [found for found in models if found.id in ids]


def _served(engine: Engine) -> tuple[list[Model], set[int]]:
    """Return every model that has a bundle, and the ids of those that are in production or tried beside it."""
    with reading(engine) as connection:
        ids = set(connection.execute(select(rollout.c.model_id)).scalars())
    models = [found for found in list_models(engine) if not found.is_label_set]
    return models, ids | {found.id for found in models if found.stage is Stage.PRODUCTION}


def backlog(engine: Engine) -> Backlog:
    """Return what waits and what went wrong. It reads the batches of all runs."""
    # What was never published counts from the start of its run.
    since = func.min(func.coalesce(batch.c.not_before, batch.c.published_at, run.c.created_at))
    of_open = select(func.count(), epoch_now() - since).join_from(batch, run).where(run.c.state == RunState.OPEN)
    dead = select(batch.c.run_id, func.count(), func.sum(batch.c.images)).where(batch.c.status == BatchStatus.DEAD)
    queued = batch.c.status == BatchStatus.QUEUED
    paused = select(batch.c.run_id).join(run).where(queued, run.c.state == RunState.PAUSED).distinct()
    with reading(engine) as connection:
        count, seconds = connection.execute(of_open.where(queued)).one()
        by_run = connection.execute(dead.group_by(batch.c.run_id).order_by(batch.c.run_id.desc())).all()
        halted = connection.execute(paused.order_by(batch.c.run_id.desc()).limit(NAMED)).scalars().all()
    return Backlog(
        queued=count,
        oldest_seconds=max(0.0, float(seconds or 0.0)),
        dead=[(row[0], row[1], row[2]) for row in by_run[:NAMED]],
        dead_runs=len(by_run),
        paused=halted,
    )

"""What waits and what runs in all queues together, for monitoring.

A million batches that wait are read once, whatever is known of them, and nothing is joined with them: the few runs that
they belong to are looked up afterwards. The queues of `tagmill tag` are left out, which no worker serves.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, case, func, not_, select

from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import BatchStatus, RunState, batch, run, run_fault, worker_fault
from tagmill.ledger.batches.conditions import NOW, QUEUED, RUNNING, has_status
from tagmill.ledger.faults.workers import REPORTED_SECONDS
from tagmill.ledger.runs.create import LOCAL_QUEUE_PREFIX
from tagmill.priority import Priority

#: the statuses of batches that are work
WORK = (BatchStatus.QUEUED.value, BatchStatus.RUNNING.value)
#: the states of runs that are counted; `open` are those with work left
RUN_STATES = (*(state.value for state in RunState), "done")
#: run ids of one lookup
_LOOKUP = 500
_KEYS = (batch.c.run_id, batch.c.queue, batch.c.priority)
_COUNTS = (func.count().label("batches"), func.sum(batch.c.images).label("images"))
#: since when a batch may be claimed; NULL if it may not be yet, or is not published
_WAITS_SINCE = case(
    (batch.c.not_before.is_(None), batch.c.published_at), (batch.c.not_before <= NOW, batch.c.not_before)
)
_EXPIRED = func.sum(case((batch.c.lease_until < NOW, 1), else_=0))
_WAITING = select(*_KEYS, *_COUNTS, func.min(_WAITS_SINCE).label("since")).where(QUEUED).group_by(*_KEYS)
_IN_WORK = select(*_KEYS, *_COUNTS, _EXPIRED.label("expired")).where(RUNNING).group_by(*_KEYS)
#: a retry takes the images out of the batch that they failed in
_DEAD = select(batch.c.queue, *_COUNTS).where(has_status(BatchStatus.DEAD), batch.c.images > 0).group_by(batch.c.queue)


@dataclass
class Work:
    """What there is of a queue, priority and status, without paused and cancelled runs."""

    batches: int = 0
    images: int = 0
    #: seconds for which the oldest has waited; None if none waits that may be claimed
    oldest_seconds: float | None = None


@dataclass
class QueueState:
    """What waits and runs at one moment."""

    #: (queue, priority, one of `WORK`) -> work
    work: dict[tuple[str, Priority, str], Work] = field(default_factory=dict)
    #: queue -> batches that were given up, and their images that were not retried
    dead: dict[str, Work] = field(default_factory=dict)
    #: one of `RUN_STATES` -> runs
    runs: Counter[str] = field(default_factory=Counter)
    #: running batches whose lease is over
    expired: int = 0
    #: (queue, reason) -> workers that are out
    out: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: open runs that are held, because no worker has what they need
    held: int = 0


def queue_state(engine: Engine) -> QueueState:
    """Return what waits and runs now."""
    state = QueueState()
    with reading(engine) as connection:
        now = float(connection.execute(select(epoch_now())).scalar_one())
        waiting, in_work, dead = (_shared(connection.execute(one)) for one in (_WAITING, _IN_WORK, _DEAD))
        states = _states(connection, {row.run_id for row in (*waiting, *in_work)})
        for row in waiting:
            if states.get(row.run_id) == RunState.OPEN:
                found = _add(state, row, BatchStatus.QUEUED)
                if row.since is not None:
                    found.oldest_seconds = max(found.oldest_seconds or 0.0, now - row.since)
        for row in in_work:
            _add(state, row, BatchStatus.RUNNING)
            state.expired += int(row.expired)
        state.dead = {row.queue: Work(int(row.batches), int(row.images)) for row in dead}
        _count_runs(connection, state, states)
        _count_faults(connection, state)
    return state


def _shared(rows: Iterable[Any]) -> list[Any]:
    return [row for row in rows if not row.queue.startswith(LOCAL_QUEUE_PREFIX)]


def _add(state: QueueState, row: Any, status: str) -> Work:
    found = state.work.setdefault((row.queue, Priority(row.priority), status), Work())
    found.batches += int(row.batches)
    found.images += int(row.images)
    return found


def _states(connection: Connection, run_ids: Collection[int]) -> dict[int, str]:
    """Return run id -> state."""
    ids = sorted(run_ids)
    found: dict[int, str] = {}
    for start in range(0, len(ids), _LOOKUP):
        chosen = select(run.c.id, run.c.state).where(run.c.id.in_(ids[start : start + _LOOKUP]))
        found |= {row.id: row.state for row in connection.execute(chosen)}
    return found


def _count_runs(connection: Connection, state: QueueState, unfinished: dict[int, str]) -> None:
    shared = not_(run.c.queue.startswith(LOCAL_QUEUE_PREFIX, autoescape=True))
    counted: Sequence[Any] = connection.execute(
        select(run.c.state, func.count().label("runs")).where(shared).group_by(run.c.state)
    ).all()
    state.runs = Counter({row.state: row.runs for row in counted})
    # That a run is done follows from its batches.
    begun = sum(1 for one in unfinished.values() if one == RunState.OPEN)
    state.runs["done"] = state.runs[RunState.OPEN] - begun
    state.runs[RunState.OPEN] = begun


def _count_faults(connection: Connection, state: QueueState) -> None:
    lately = worker_fault.c.seen_at > NOW - REPORTED_SECONDS
    keys = (worker_fault.c.queue, worker_fault.c.reason)
    for row in connection.execute(select(*keys, func.count().label("workers")).where(lately).group_by(*keys)):
        state.out[row.queue, row.reason] = row.workers
    held = select(func.count(run_fault.c.run_id.distinct())).join(run, run.c.id == run_fault.c.run_id)
    state.held = connection.execute(held.where(run_fault.c.held_until > NOW, run.c.state == RunState.OPEN)).scalar_one()

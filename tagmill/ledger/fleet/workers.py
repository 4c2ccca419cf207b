"""The workers that run or ran, one row each: what they do, and whether they are asked to end."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, Row, and_, delete, false, insert, or_, select, update

from tagmill.db.audit import Action, record
from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import worker_fault, worker_state

#: seconds without a report after which a worker counts as lost
LOST_SECONDS = 30.0
#: the same for one that starts: nothing reports while a device is tried, or while its process waits for the database
STARTING_SECONDS = 660.0
#: seconds after which a row that nobody reports in any more is deleted
KEPT_SECONDS = 86_400.0


class WorkerState(StrEnum):
    """What a worker does."""

    #: it checks its device and its database, or is started again
    STARTING = "starting"
    #: it takes batches
    READY = "ready"
    #: it takes no more batches, finishes those in hand and ends
    DRAINING = "draining"
    #: it takes no batches until a fault of its own is gone; see `tagmill.ledger.faults.workers`
    OUT = "out"
    #: it ended as it was asked to
    STOPPED = "stopped"
    #: never stored: it has not reported for a while, so it was killed, is frozen, or does not reach the database
    LOST = "lost"


@dataclass(frozen=True)
class Identity:
    """Who a worker is: `worker` is HOST:PID, and `name` is NAME@HOST as in Flower."""

    worker: str
    name: str
    queue: str
    device: str
    version: str


@dataclass(frozen=True)
class Work:
    """What a worker has loaded, and what it did since its last report."""

    provider: str | None
    #: NAME@VERSION of its bundles
    models: Sequence[str]
    batches: int
    images: int
    #: images per second of the last minute
    rate: float
    #: seconds since it finished a batch; None if it has finished none since the last report
    idle_seconds: float | None


@dataclass(frozen=True)
class Worker:
    """A worker as `tagmill worker list` shows it. Times are Unix seconds by the database's clock."""

    worker: str
    name: str
    host: str
    queue: str
    state: WorkerState
    #: whether it was asked to end
    drain: bool
    device: str
    provider: str | None
    models: list[str]
    version: str
    started_at: float
    seen_at: float
    last_batch_at: float | None
    batches: int
    images: int
    images_per_second: float
    #: what is wrong with it, if it is out
    fault: str | None

    @property
    def alive(self) -> bool:
        """Return whether it runs, as far as its reports say."""
        return self.state not in (WorkerState.STOPPED, WorkerState.LOST)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def begin(engine: Engine, identity: Identity) -> None:
    """Record that a worker starts. Its row replaces that of one that ended with the same name or HOST:PID."""
    columns, now = worker_state.c, epoch_now()
    ended = or_(columns.state == WorkerState.STOPPED, columns.seen_at < now - LOST_SECONDS)
    same = or_(columns.worker == identity.worker, and_(columns.name == identity.name, ended))
    with engine.begin() as connection:
        connection.execute(delete(worker_state).where(or_(same, columns.seen_at < now - KEPT_SECONDS)))
        connection.execute(insert(worker_state).values(_new_row(identity, WorkerState.STARTING)))


def report(engine: Engine, identity: Identity, state: WorkerState, work: Work | None = None) -> bool:
    """Record what a worker does now; return whether it was asked to drain."""
    values: dict[str, Any] = {"state": state, "seen_at": epoch_now()}
    if work is not None:
        values |= {"provider": work.provider, "models": list(work.models), "rate": work.rate}
        values["batches"] = worker_state.c.batches + work.batches
        values["images"] = worker_state.c.images + work.images
        if work.idle_seconds is not None:
            values["last_batch_at"] = epoch_now() - work.idle_seconds
    mine = update(worker_state).where(worker_state.c.worker == identity.worker).values(values)
    with engine.begin() as connection:
        drain: bool | None = connection.execute(mine.returning(worker_state.c.drain)).scalar_one_or_none()
        if drain is None:  # somebody deleted its row, or restored a backup
            connection.execute(insert(worker_state).values(_new_row(identity, state)))
    return bool(drain)


def list_workers(engine: Engine) -> list[Worker]:
    """Return all workers that were seen within a day, by name."""
    fault = worker_fault.c.detail.label("fault")
    joined = worker_state.outerjoin(worker_fault, worker_fault.c.worker == worker_state.c.worker)
    rows = select(worker_state, fault, epoch_now().label("now")).select_from(joined)
    recent = rows.where(worker_state.c.seen_at >= epoch_now() - KEPT_SECONDS)
    with reading(engine) as connection:
        found = connection.execute(recent.order_by(worker_state.c.name, worker_state.c.started_at)).all()
    return [_worker(row) for row in found]


def ask_to_drain(engine: Engine, workers: Collection[Worker]) -> None:
    """Ask these workers to take no more batches and to end, and record who asked."""
    chosen = worker_state.c.worker.in_(sorted(worker.worker for worker in workers))
    with engine.begin() as connection:
        connection.execute(update(worker_state).where(chosen).values(drain=True))
        for name in sorted(worker.name for worker in workers):
            record(connection, Action.DRAIN, details={"worker": name})


def _new_row(identity: Identity, state: WorkerState) -> dict[str, Any]:
    values = asdict(identity)
    return values | {"state": state, "models": [], "drain": false(), "started_at": epoch_now(), "seen_at": epoch_now()}


def _worker(row: Row[Any]) -> Worker:
    state, silent = WorkerState(row.state), row.now - row.seen_at
    limit = STARTING_SECONDS if state is WorkerState.STARTING else LOST_SECONDS
    if state is not WorkerState.STOPPED and silent > limit:
        state = WorkerState.LOST
    return Worker(
        worker=row.worker,
        name=row.name,
        host=row.name.rpartition("@")[2],
        queue=row.queue,
        state=state,
        drain=row.drain,
        device=row.device,
        provider=row.provider,
        models=row.models,
        version=row.version,
        started_at=row.started_at,
        seen_at=row.seen_at,
        last_batch_at=row.last_batch_at,
        batches=row.batches,
        images=row.images,
        images_per_second=row.rate if state is WorkerState.READY else 0.0,
        fault=row.fault if state is WorkerState.OUT else None,
    )

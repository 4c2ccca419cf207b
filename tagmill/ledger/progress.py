"""How far a run is, read from SQL alone: from its batches, which keep counts; never image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, func, select

from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, model, run, run_model
from tagmill.errors import InputError

#: how the queues of `tagmill tag` begin, which no worker serves: see worker/local/tag.py
EMBEDDED = "embedded-"
#: what the speed is measured over
RATE_SECONDS = 60.0
#: of batches whose images have no outcome yet
_UNFINISHED = (BatchStatus.QUEUED, BatchStatus.RUNNING, BatchStatus.CANCELLED)


@dataclass(frozen=True)
class RunProgress:
    """Counts of one run at one moment. Times are Unix seconds."""

    run: int
    source: str
    queue: str
    cancelled: bool
    models: tuple[str, ...]
    created_at: float
    images: int
    tagged: int
    failed: int
    failures: Mapping[str, int]
    batches: Mapping[str, int]
    #: results computed by this run; the others were known from earlier ones
    inferences: int
    started_at: float | None
    #: of the last finished batch
    finished_at: float | None
    #: by the database's clock
    read_at: float
    #: images with an outcome for each second of the last minute of work
    images_per_second: float

    @property
    def pending(self) -> int:
        """Images without an outcome."""
        return self.images - self.tagged - self.failed

    @property
    def state(self) -> str:
        """queued, running, done, or cancelled; a cancelled run is running until its batches in work are finished."""
        if self.pending == 0:
            return "done"
        waiting = 0 if self.cancelled else self.batches[BatchStatus.QUEUED]
        if self.batches[BatchStatus.CANCELLED] + self.cancelled and not waiting + self.batches[BatchStatus.RUNNING]:
            return "cancelled"
        return "queued" if self.started_at is None else "running"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in {"done", "cancelled"}

    @property
    def embedded(self) -> bool:
        """Whether `tagmill tag` does the run by itself: there is no queue to put images on again."""
        return self.queue.startswith(EMBEDDED)

    @property
    def seconds(self) -> float:
        """From the first claim to the last result, or until now."""
        end = self.finished_at if self.ended else self.read_at
        return max(0.0, end - self.started_at) if self.started_at is not None and end is not None else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to go at the rate of the last minute; None before the first result."""
        return self.pending / self.images_per_second if self.images_per_second else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, derived ones included."""
        return vars(self) | {
            "failures": dict(self.failures),
            "batches": dict(self.batches),
            "models": list(self.models),
            "pending": self.pending,
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
        }


def run_progress(engine: Engine, run_id: int) -> RunProgress:
    """Read one run; raises InputError where there is none of that id."""
    with reading(engine) as connection:
        return _progress(connection, run_id)


def list_runs(engine: Engine, limit: int) -> list[RunProgress]:
    """Read the newest runs, newest first."""
    with reading(engine) as connection:
        newest = connection.execute(select(run.c.id).order_by(run.c.id.desc()).limit(limit)).scalars().all()
        return [_progress(connection, run_id) for run_id in newest]


def unfinished_run(engine: Engine, queue: str) -> int | None:
    """Return the newest open run of a queue that still has images to do."""
    waiting = select(batch.c.id).where(batch.c.run_id == run.c.id, batch.c.status.in_(_UNFINISHED), batch.c.images > 0)
    candidates = select(run.c.id).where(run.c.queue == queue, run.c.state == RunState.OPEN, waiting.exists())
    with reading(engine) as connection:
        return connection.execute(candidates.order_by(run.c.id.desc()).limit(1)).scalar_one_or_none()


def _progress(connection: Connection, run_id: int) -> RunProgress:
    found = connection.execute(select(run).where(run.c.id == run_id)).one_or_none()
    if found is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    models = connection.execute(
        select(model.c.name, model.c.version)
        .join(run_model, run_model.c.model_sha256 == model.c.sha256)
        .where(run_model.c.run_id == run_id)
        .order_by(model.c.name, model.c.version)
    )
    failures = _failures(connection, run_id)
    by_status = {row.status: row for row in _batches(connection, run_id)}
    rows = by_status.values()
    finished = max((row.finished for row in rows if row.finished is not None), default=None)
    return RunProgress(
        run=run_id,
        source=found.source,
        queue=found.queue,
        cancelled=found.state == RunState.CANCELLED,
        models=tuple(f"{row.name}@{row.version}" for row in models),
        created_at=found.created_at,
        images=sum(row.images for row in rows),
        tagged=sum(row.tagged for row in rows),
        failed=sum(failures.values()),
        failures=failures,
        batches={status.value: by_status[status].batches if status in by_status else 0 for status in BatchStatus},
        inferences=sum(row.inferences for row in rows),
        started_at=min((row.started for row in rows if row.started is not None), default=None),
        finished_at=finished,
        read_at=connection.execute(select(epoch_now())).scalar_one(),
        images_per_second=_recent_rate(connection, run_id, finished),
    )


def _batches(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    """Return counts and times of the batches of each status."""
    sums = [func.sum(batch.c[name]).label(name) for name in ("images", "tagged", "inferences")]
    times = (func.min(batch.c.started_at).label("started"), func.max(batch.c.finished_at).label("finished"))
    counted = select(batch.c.status, func.count().label("batches"), *sums, *times)
    return connection.execute(counted.where(batch.c.run_id == run_id).group_by(batch.c.status)).all()


def _failures(connection: Connection, run_id: int) -> dict[str, int]:
    """Return how many images failed with each code, the most frequent one first."""
    images = func.sum(batch_failure.c.images)
    counted = select(batch_failure.c.error_code, images).where(batch_failure.c.run_id == run_id)
    grouped = connection.execute(counted.group_by(batch_failure.c.error_code).order_by(images.desc()))
    return {code: int(count) for code, count in grouped}


def _recent_rate(connection: Connection, run_id: int, finished_at: float | None) -> float:
    if finished_at is None:
        return 0.0
    # Of the last minute before the last result: a pause before it, or since, says nothing about the speed.
    recent = and_(batch.c.run_id == run_id, batch.c.images > 0, batch.c.finished_at > finished_at - RATE_SECONDS)
    started, images = connection.execute(
        select(func.min(batch.c.started_at), func.sum(batch.c.images)).where(recent)
    ).one()
    if started is None:
        return 0.0
    return float(images / max(1e-3, finished_at - max(started, finished_at - RATE_SECONDS)))

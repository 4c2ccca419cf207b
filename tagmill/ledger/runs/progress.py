"""Read the progress of runs from SQL alone: from the counts that batches keep, never image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, func, select, text

from tagmill.db.connection import WORKER, epoch_now, reading
from tagmill.db.schema import BatchStatus, RunState, batch, batch_failure, model, run, run_model
from tagmill.errors import InputError
from tagmill.ledger.batches.conditions import UNPUBLISHED
from tagmill.ledger.faults.runs import waits_for
from tagmill.ledger.faults.workers import unfit_workers
from tagmill.ledger.runs.create import LOCAL_QUEUE_PREFIX
from tagmill.priority import Priority

#: seconds of work over which `images_per_second` is measured
RATE_SECONDS = 60.0
#: seconds after which a statement of a worker counts as waiting: its own take milliseconds
WAITING_SECONDS = 2.0
_WAITING = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(application_name, :worker)
      AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
      AND query_start < clock_timestamp() - make_interval(secs => :seconds)
""")
#: statuses of batches whose last attempt may have failed
_FAILED = (BatchStatus.DEAD, BatchStatus.QUEUED)
#: reasons of failed attempts that are read
MOST_REASONS = 10
#: columns of batches that are summed
_SUMS = (
    *("images", "tagged", "inferences"),
    *("requests", "not_modified", "bytes_fetched", "cpu_seconds", "gpu_seconds"),
)
#: statuses of batches whose images have no outcome yet
_UNFINISHED = (BatchStatus.QUEUED, BatchStatus.RUNNING, BatchStatus.CANCELLED)


@dataclass(frozen=True)
class BatchErrors:
    """Batches of one status whose last attempt failed for the same reason."""

    #: dead, or queued for another attempt
    status: str
    reason: str
    batches: int
    images: int

    @property
    def dead(self) -> bool:
        """Whether they are out of attempts."""
        return self.status == BatchStatus.DEAD


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
    #: why attempts failed as a whole, the most images first; at most `MOST_REASONS`
    batch_errors: tuple[BatchErrors, ...]
    #: results computed by this run; the others were known from earlier runs
    inferences: int
    started_at: float | None
    #: when the last finished batch ended
    finished_at: float | None
    #: when this was read, by the database's clock
    read_at: float
    #: images with an outcome per second, over the last minute of work
    images_per_second: float
    #: statements of workers that PostgreSQL has not answered for `WAITING_SECONDS` or longer
    workers_waiting: int
    #: workers of its queue that are out, see `tagmill.ledger.faults.workers.unfit_workers`
    unfit_workers: Sequence[Mapping[str, Any]] = ()
    #: what no worker has that it needs, or not every one, see `tagmill.ledger.faults.runs.waits_for`
    waits_for: Sequence[Mapping[str, Any]] = ()
    paused: bool = False
    #: batches that nobody publishes, because their submit was interrupted
    unpublished: int = 0
    priority: Priority = Priority.NORMAL
    #: requests for its images, those of them that were answered with 304, and the bytes of all bodies
    requests: int = 0
    not_modified: int = 0
    bytes_fetched: int = 0
    #: seconds of all cores, and of inference calls on GPUs
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    #: the id of `tagmill submit --id`
    submission: str | None = None

    @property
    def pending(self) -> int:
        """The number of images without an outcome."""
        return self.images - self.tagged - self.failed

    @property
    def state(self) -> str:
        """queued, running, paused, done or cancelled.

        A cancelled run is running until its running batches are finished; a paused one is paused at once.
        """
        if self.pending == 0:
            return "done"
        if self.paused:
            return "paused"
        waiting = 0 if self.cancelled else self.batches[BatchStatus.QUEUED]
        if self.batches[BatchStatus.CANCELLED] + self.cancelled and not waiting + self.batches[BatchStatus.RUNNING]:
            return "cancelled"
        return "queued" if self.started_at is None else "running"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens without a command: the run is done or cancelled."""
        return self.state in {"done", "cancelled"}

    @property
    def is_local(self) -> bool:
        """Whether the run belongs to `tagmill tag`, which has no workers: repeating the command retries it."""
        return self.queue.startswith(LOCAL_QUEUE_PREFIX)

    @property
    def seconds(self) -> float:
        """Seconds from the first claim to the last result, or until now if the run has not ended."""
        end = self.finished_at if self.ended else self.read_at
        return max(0.0, end - self.started_at) if self.started_at is not None and end is not None else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left at the rate of the last minute of work; None before the first result."""
        return self.pending / self.images_per_second if self.images_per_second else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, including the derived ones."""
        return vars(self) | {
            "failures": dict(self.failures),
            "batches": dict(self.batches),
            "batch_errors": [vars(errors) for errors in self.batch_errors],
            "models": list(self.models),
            "unfit_workers": list(self.unfit_workers),
            "waits_for": list(self.waits_for),
            "priority": self.priority.word,
            "pending": self.pending,
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "gpu_seconds": round(self.gpu_seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
        }


def run_progress(engine: Engine, run_id: int) -> RunProgress:
    """Read one run. Raise InputError if there is no run with that id."""
    with reading(engine) as connection:
        return _progress(connection, run_id)


def list_runs(engine: Engine, limit: int) -> list[RunProgress]:
    """Read the newest runs, newest first."""
    with reading(engine) as connection:
        newest = connection.execute(select(run.c.id).order_by(run.c.id.desc()).limit(limit)).scalars().all()
        return [_progress(connection, run_id) for run_id in newest]


def newest_run(engine: Engine, queue: str) -> int | None:
    """Return the newest run of a queue; None if there is none."""
    with reading(engine) as connection:
        newest = select(run.c.id).where(run.c.queue == queue).order_by(run.c.id.desc()).limit(1)
        return connection.execute(newest).scalar_one_or_none()


def unfinished_run(engine: Engine, queue: str) -> int | None:
    """Return the newest open run of a queue that still has images to tag; None if there is none."""
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
        .join(run_model, run_model.c.model_id == model.c.id)
        .where(run_model.c.run_id == run_id)
        .order_by(model.c.name, model.c.version)
    )
    failures = _failures(connection, run_id)
    by_status = {row.status: row for row in _batches(connection, run_id)}
    rows = by_status.values()
    unfinished = any(status in by_status for status in _UNFINISHED)
    finished = max((row.finished for row in rows if row.finished is not None), default=None)
    return RunProgress(
        run=run_id,
        source=found.source,
        queue=found.queue,
        submission=found.submission,
        cancelled=found.state == RunState.CANCELLED,
        paused=found.state == RunState.PAUSED,
        unpublished=_unpublished(connection, run_id) if found.publish_until is None and unfinished else 0,
        priority=Priority(found.priority),
        models=tuple(f"{row.name}@{row.version}" for row in models),
        created_at=found.created_at,
        images=sum(row.images for row in rows),
        tagged=sum(row.tagged for row in rows),
        failed=sum(failures.values()),
        failures=failures,
        batch_errors=_batch_errors(connection, run_id) if any(row.errors for row in rows) else (),
        batches={status.value: by_status[status].batches if status in by_status else 0 for status in BatchStatus},
        inferences=sum(row.inferences for row in rows),
        started_at=min((row.started for row in rows if row.started is not None), default=None),
        finished_at=finished,
        requests=sum(row.requests for row in rows),
        not_modified=sum(row.not_modified for row in rows),
        bytes_fetched=sum(int(row.bytes_fetched) for row in rows),
        cpu_seconds=sum(row.cpu_seconds for row in rows),
        gpu_seconds=sum(row.gpu_seconds for row in rows),
        read_at=connection.execute(select(epoch_now())).scalar_one(),
        images_per_second=_recent_rate(connection, run_id, finished),
        workers_waiting=_workers_waiting(connection),
        unfit_workers=unfit_workers(connection, found.queue) if unfinished else [],
        waits_for=waits_for(connection, run_id) if unfinished else [],
    )


def _batches(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    """Return one row per status, with the counts and times of its batches."""
    sums = [func.sum(batch.c[name]).label(name) for name in _SUMS]
    times = (func.min(batch.c.started_at).label("started"), func.max(batch.c.finished_at).label("finished"))
    counts = (func.count().label("batches"), func.count(batch.c.error).label("errors"))
    counted = select(batch.c.status, *counts, *sums, *times)
    return connection.execute(counted.where(batch.c.run_id == run_id).group_by(batch.c.status)).all()


def _batch_errors(connection: Connection, run_id: int) -> tuple[BatchErrors, ...]:
    """Return the reasons why batches are dead, or wait for another attempt."""
    images = func.sum(batch.c.images)
    failed = and_(batch.c.run_id == run_id, batch.c.status.in_(_FAILED), batch.c.error.is_not(None), batch.c.images > 0)
    grouped = select(batch.c.status, batch.c.error, func.count(), images).where(failed)
    grouped = grouped.group_by(batch.c.status, batch.c.error).order_by(batch.c.status, images.desc())
    rows = connection.execute(grouped.limit(MOST_REASONS))
    return tuple(BatchErrors(status, error, batches, int(images)) for status, error, batches, images in rows)


def _unpublished(connection: Connection, run_id: int) -> int:
    counted = select(func.count()).select_from(batch).where(batch.c.run_id == run_id, UNPUBLISHED)
    return int(connection.execute(counted).scalar_one())


def _failures(connection: Connection, run_id: int) -> dict[str, int]:
    """Return code -> number of images that failed with it, the most frequent code first."""
    images = func.sum(batch_failure.c.images)
    counted = select(batch_failure.c.error_code, images).where(batch_failure.c.run_id == run_id)
    grouped = connection.execute(counted.group_by(batch_failure.c.error_code).order_by(images.desc()))
    return {code: int(count) for code, count in grouped}


def _recent_rate(connection: Connection, run_id: int, finished_at: float | None) -> float:
    if finished_at is None:
        return 0.0
    # Only the minute before the last result counts: a pause before or after it says nothing about the speed.
    recent = and_(batch.c.run_id == run_id, batch.c.images > 0, batch.c.finished_at > finished_at - RATE_SECONDS)
    started, images = connection.execute(
        select(func.min(batch.c.started_at), func.sum(batch.c.images)).where(recent)
    ).one()
    if started is None:
        return 0.0
    return float(images / max(1e-3, finished_at - max(started, finished_at - RATE_SECONDS)))


def _workers_waiting(connection: Connection) -> int:
    """Return how many workers' statements wait in PostgreSQL; SQLite does not know."""
    if connection.dialect.name != "postgresql":
        return 0
    return int(connection.execute(_WAITING, {"worker": WORKER, "seconds": WAITING_SECONDS}).scalar_one())

"""The numbers of `benchmarks.worker.fleet`, from what the workers report and the samples."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.support.fleet.load import Load
from benchmarks.support.fleet.sampling import Sample
from benchmarks.support.fleet.worker import Report

#: the measured time begins after this many times the batches in work
RAMP_UP = 2
PHASES = ("claim", "known", "complete", "acknowledge")
POSTGRESQL, REDIS, WORKERS = "postgresql", "redis", "workers"


@dataclass(frozen=True)
class Measured:
    """The results of one run of all its images."""

    images_per_second: float
    claim_ms: float
    claim_p99_ms: float
    known_ms: float
    known_p99_ms: float
    complete_ms: float
    complete_p99_ms: float
    acknowledge_ms: float
    acknowledge_p99_ms: float
    deadlocks: int
    #: batches that a worker was not given, or lost to another one
    dropped: int
    connections: int
    #: milliseconds of CPU time for an image; None for a server that was not started here
    postgresql_cpu_ms: float | None
    redis_cpu_ms: float | None
    workers_cpu_ms: float | None
    #: of an image
    wal_bytes: float
    #: of an image, with its row of the run
    database_bytes: float


#: field of Measured -> its line of the table, digits after the point
LINES = {
    "images_per_second": ("images/s", 0),
    **{
        f"{phase}{which}_ms": (f"{phase}, ms, {title}", 1)
        for phase in PHASES
        for which, title in (("", "median"), ("_p99", "99th percentile"))
    },
    "deadlocks": ("deadlocks", 0),
    "dropped": ("batches not free or lost", 0),
    "connections": ("most connections", 0),
    "postgresql_cpu_ms": ("CPU of PostgreSQL, ms an image", 3),
    "redis_cpu_ms": ("CPU of Redis, ms an image", 3),
    "workers_cpu_ms": ("CPU of the workers, ms an image", 3),
    "wal_bytes": ("WAL, bytes an image", 0),
    "database_bytes": ("database, bytes an image", 0),
}


def summary(report: Report, samples: Sequence[Sample], load: Load, deadlocks: int, grown: float) -> Measured:
    """Return the numbers of the measured time. `grown` are the bytes of an image in SQL.

    It begins when `RAMP_UP` times the batches in work are finished, and ends when as many are left as are in work.
    """
    ordered = sorted(report.finished)
    start, end = ordered[RAMP_UP * load.in_work - 1].at, ordered[-load.in_work - 1].at
    inside = [batch for batch in ordered if start < batch.at <= end]
    images = sum(batch.images for batch in inside)
    times = {}
    for phase in PHASES:
        milliseconds = [1000 * float(getattr(batch, phase)) for batch in inside]
        times[f"{phase}_ms"] = float(np.percentile(milliseconds, 50))
        times[f"{phase}_p99_ms"] = float(np.percentile(milliseconds, 99))
    cpu = {
        f"{role}_cpu_ms": 1000 * growth(samples, start, end, role) / images if role in samples[-1].cpu else None
        for role in (POSTGRESQL, REDIS, WORKERS)
    }
    return Measured(
        images_per_second=images / (end - start),
        **times,
        **cpu,
        deadlocks=deadlocks,
        dropped=report.dropped,
        connections=max(sample.connections for sample in samples),
        wal_bytes=growth(samples, start, end) / images,
        database_bytes=grown,
    )


def growth(samples: Sequence[Sample], start: float, end: float, role: str | None = None) -> float:
    """Return the growth between two moments of the CPU time of a role, or of the WAL."""
    at = [sample.at for sample in samples]
    values = [float(sample.wal) if role is None else sample.cpu.get(role, 0.0) for sample in samples]
    first, last = np.interp([start, end], at, values)
    return float(last - first)


def waits_table(samples: Sequence[Sample]) -> str:
    """Return a Markdown table of what connections with a running statement wait for, in the mean."""
    waits = sum((Counter(sample.waits) for sample in samples), Counter[str]())
    lines = ["| waits for | connections |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {count / len(samples):.2f} |" for name, count in waits.most_common(12)])


def table(columns: dict[str, list[Measured]]) -> str:
    """Return a Markdown table with the median and the range of each number; one column for each kind of run."""
    lines = [f"| | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name, (title, digits) in LINES.items():
        lines.append(f"| {title} | {' | '.join(_cell(name, digits, rounds) for rounds in columns.values())} |")
    return "\n".join(lines)


def _cell(name: str, digits: int, rounds: Sequence[Measured]) -> str:
    values = [value for found in rounds if (value := getattr(found, name)) is not None]
    if not values:
        return ""
    low, middle, high = (f"{edge:,.{digits}f}" for edge in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} [{low}-{high}]"


def to_json(rounds: Sequence[Measured]) -> dict[str, Any]:
    """Return the median of each number, the deadlocks and dropped batches of all rounds, and the rounds."""
    medians = {}
    for name in LINES:
        values = [value for found in rounds if (value := getattr(found, name)) is not None]
        medians[name] = statistics.median(values) if values else None
    sums = {name: sum(getattr(found, name) for found in rounds) for name in ("deadlocks", "dropped")}
    return medians | sums | {"rounds": [asdict(found) for found in rounds]}

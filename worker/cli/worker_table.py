"""Show workers on a terminal."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tagmill.ledger.fleet.workers import Worker, WorkerState
from tagmill.text import legible


def print_workers(console: Console, workers: Sequence[Worker], now: float) -> None:
    """Print a table of workers, and below it what is wrong with those that are out. `now` in Unix seconds."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("worker", overflow="fold")
    for name in ("state", "device"):
        table.add_column(name, no_wrap=True)
    table.add_column("models", overflow="fold")
    for name in ("started", "last batch", "images/s"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("version", no_wrap=True)
    named = Counter(worker.name for worker in workers)
    for worker in workers:
        # Of several with one name, `tagmill worker drain` takes the id.
        name = worker.name if named[worker.name] == 1 else f"{worker.name}\n{worker.worker}"
        provider = (worker.provider or "").replace("ExecutionProvider", "")
        # Two lines each: a row fits into 80 columns, and the name can be copied to `tagmill worker drain`.
        table.add_row(
            *(name, _state(worker, now), f"{worker.device}\n{provider}", "\n".join(worker.models)),
            *(datetime.fromtimestamp(worker.started_at, UTC).strftime("%m-%d\n%H:%M"), _ago(worker.last_batch_at, now)),
            *(f"{worker.images_per_second:,.1f}", worker.version),
        )
    console.print(table)
    for worker in workers:
        if worker.fault:
            console.print(legible(f"{worker.name} is out: {worker.fault}"), soft_wrap=True)


def _state(worker: Worker, now: float) -> str:
    if worker.state is WorkerState.LOST:
        return f"lost, {_ago(worker.seen_at, now)}"
    asked = worker.drain and worker.alive and worker.state is not WorkerState.DRAINING
    return f"{worker.state}, to drain" if asked else worker.state


def _ago(then: float | None, now: float) -> str:
    """Return how long ago that was, to seconds, minutes or hours."""
    if then is None:
        return ""
    seconds = max(now - then, 0.0)
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"

"""Runs: those that wait for something, and batches that were given up."""

from collections.abc import Iterator

from tagmill.ledger.faults.runs import run_faults
from tagmill.ledger.fleet.needed import NAMED, backlog
from tagmill.ledger.fleet.workers import WorkerState, list_workers
from worker.doctor.finding import Finding, Subject, error, ok, warning

#: seconds that work may wait while no worker is ready
_WAIT_SECONDS = 60.0


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with runs."""
    engine = subject.database()
    found = backlog(engine)
    ready = [worker for worker in list_workers(engine) if worker.state is WorkerState.READY]
    if found.queued and not ready and found.oldest_seconds > _WAIT_SECONDS:
        what = f"{found.queued} batches wait, the first for {found.oldest_seconds / 60:.0f} minutes"
        yield error(f"{what}, and no worker is ready", "start a worker for their queue: tagmill run list")
    else:
        yield ok(f"{found.queued} batches wait" if found.queued else "no batch waits")
    for run, batches, images in found.dead:
        advice = f"tagmill run status {run} says why; then: tagmill run retry {run}"
        yield error(f"run {run}: {batches} batches with {images} images were given up", advice)
    if found.dead_runs > len(found.dead):
        yield error(f"so were batches of {found.dead_runs - len(found.dead)} older runs", "tagmill run list")
    for run in found.paused:
        yield warning(f"run {run} is paused, and batches of it wait", f"go on: tagmill run resume {run}")
    for row in run_faults(engine, subject.settings.queue)[:NAMED]:
        advice = "mount the folder, or add the model again; without it the images fail after TAGMILL_HOLD_SECONDS"
        yield error(f"run {row.run_id} waits: {row.detail}", advice)

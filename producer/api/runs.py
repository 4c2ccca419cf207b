"""Submit runs and wait for them, as `tagmill submit` and `tagmill run watch` do."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from producer.api.database import database, one_of
from producer.broker_outage import explain_broker_outage
from producer.publish import publish_run
from producer.sources.options import READ_ALL, ReadOptions
from producer.submission import Submission, find_targets, write_run
from producer.traced import traced_submit
from tagmill.broker.app import make_app, require_shared_broker
from tagmill.errors import InputError
from tagmill.fetch_options import FETCH_ALL, FetchOptions
from tagmill.images.file_names import SkippedFiles
from tagmill.ledger.runs.progress import RunProgress, run_progress
from tagmill.ledger.runs.rerun import Rerun
from tagmill.measuring import Measuring
from tagmill.priority import Priority
from tagmill.settings import load_settings

#: seconds between two looks at a run
POLL_SECONDS = 1.0

#: a folder, image, manifest, prefix of an object store or query
Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Submitted:
    """A run that was queued."""

    run: int
    #: messages that were sent
    batches: int
    #: entries that `rerun` left out
    left_out: int
    #: files of folders that are no entries
    skipped: SkippedFiles
    #: whether the run was submitted before under the same id; then only batches that were left out are queued
    repeated: bool = False


def submit(
    *sources: Source,
    models: Sequence[str],
    batch_size: int = 64,
    allow_roots: Sequence[Source] = (),
    priority: str = Priority.NORMAL.word,
    rerun: str = Rerun.ALL.value,
    max_queued: int | None = None,
    read: ReadOptions = READ_ALL,
    fetch: FetchOptions = FETCH_ALL,
    measure: Sequence[str] = (),
    id: str | None = None,  # noqa: A002 - the name of the option
) -> Submitted:
    """Queue sources as one run, as `tagmill submit` does, and return once all of its batches are queued.

    `models` are NAME or NAME@VERSION. `priority` is urgent, normal or backfill; `rerun` is all, missing or failed. With
    `max_queued`, batches are sent only while fewer wait. `measure` holds pictures or text, as --measure takes them.
    With an `id`, a repeated call finds the run of the first one and queues nothing twice.
    If an entry or a model is wrong, raise InputError, and queue nothing. ServiceDown says whether the run is in SQL:
    workers then take it up without another call.
    """
    if not sources or not models or isinstance(models, str):
        raise InputError("submit takes sources, and models as a list: submit('catalog.csv', models=['clothing'])")
    if not 1 <= batch_size <= 4096:
        raise InputError(f"batch_size {batch_size}: choose 1 to 4096")
    wanted = Submission(
        tuple(os.fspath(source) for source in sources),
        tuple(models),
        batch_size=batch_size,
        allow_roots=tuple(os.fspath(root) for root in allow_roots),
        priority=Priority.parse(one_of("priority", priority, [found.word for found in Priority])),
        rerun=Rerun(one_of("rerun", rerun, [found.value for found in Rerun])),
        read=read,
        fetch=fetch,
        measure=Measuring.parse([measure] if isinstance(measure, str) else measure),
        id=id,
    )
    settings = require_shared_broker(load_settings())
    with database() as engine, traced_submit(settings) as describe:
        written = write_run(engine, wanted, find_targets(engine, wanted), settings.queue)
        with explain_broker_outage(written.run):
            batches = publish_run(make_app(settings), engine, written.run, max_queued)
        describe({"run": written.run, "batches": batches})
    return Submitted(written.run, batches, written.left_out, written.skipped, written.repeated)


def status(run: int) -> RunProgress:
    """Return the progress of a run: counts, failures by code, speed, and what it took. Raise InputError."""
    with database() as engine:
        return run_progress(engine, run)


def wait(run: int, timeout: float | None = None) -> RunProgress:
    """Return the progress of a run once every image has an outcome, or the run was cancelled.

    Images may have failed: see `failed` and `failures` of what is returned. Raise TimeoutError after `timeout` seconds;
    the run goes on.
    """
    end = None if timeout is None else time.monotonic() + timeout
    with database() as engine:
        while not (progress := run_progress(engine, run)).ended:
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"run {run}: {progress.pending} of {progress.images} images have no outcome yet")
            time.sleep(POLL_SECONDS)
        return progress

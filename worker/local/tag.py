"""Run producer and worker in one process, without servers: the same code on `memory://` and SQLite."""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery
from sqlalchemy import Engine

from producer.publish import publish_run
from producer.runs import reconcile
from producer.sources.open import absolute_source, open_sources, roots_of
from producer.sources.options import READ_ALL, ReadOptions
from tagmill.broker.app import make_app
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import NothingToDo
from tagmill.fetch_options import FETCH_ALL, FetchOptions
from tagmill.images.file_names import SkippedFiles
from tagmill.ledger.runs.create import LOCAL_QUEUE_PREFIX, create_run, requeue_images, set_fetching
from tagmill.ledger.runs.progress import RunProgress, newest_run, run_progress, unfinished_run
from tagmill.measuring import Measuring
from tagmill.outcomes import ErrorCode
from tagmill.records import Entry
from tagmill.registry.models import Model, register
from tagmill.settings import Settings
from worker import reaping, task
from worker.batch import BatchProcessor, ProcessHooks
from worker.connections.availability import Services
from worker.inference.session_cache import NamedBundles
from worker.pipeline.tagger import build_tagger
from worker.supervision.device_check import require_device

#: seconds between two reads of the progress
PROGRESS_SECONDS = 0.1
#: seconds after which the batches of a killed process can be taken again
LEASE_SECONDS = 5.0
REAP_SECONDS = 1.0


@dataclass(frozen=True)
class TaggedRun:
    """A finished run, and the engine to read its results with."""

    engine: Engine
    progress: RunProgress
    models: tuple[Model, ...]
    #: files of the folders that were no entries
    skipped: SkippedFiles


def local_settings(settings: Settings, database_url: str) -> Settings:
    """Return the settings of a process that is producer, broker and worker in one."""
    changes = {"lease_seconds": LEASE_SECONDS, "reap_seconds": REAP_SECONDS}
    return settings.model_copy(update={"database_url": database_url, "broker_url": "memory://localhost/"} | changes)


def tag_locally(
    settings: Settings,
    sources: Sequence[str],
    bundles: Sequence[Path],
    batch_size: int,
    progress: Callable[[RunProgress], None],
    retry: Sequence[ErrorCode] | None = None,
    read: ReadOptions = READ_ALL,
    fetching: FetchOptions = FETCH_ALL,
    measuring: Measuring | None = None,
) -> TaggedRun:
    """Tag `sources` in this process and return when every image has an outcome, or the run is cancelled.

    An interrupted run over the same entries and bundles is continued. Images that the bundles inferred before are not
    inferred again. `progress` is called about ten times a second. `fetching` counts for what is left of a run, too.

    With `retry`, only failed images of the newest run over the same entries and bundles are tagged again, in that run:
    those that failed with one of these codes, or all if there are none. Raise NothingToDo if there are no such images.
    """
    engine = connect(settings.database_url)
    upgrade(engine)
    files = NamedBundles.of(bundles)
    if settings.decode_on_gpu:
        require_device(settings.device, decode_on_gpu=True)
    tagger = build_tagger(settings, files)
    loaded = [tagger.sessions.get(sha256) for sha256 in files.files]
    models = tuple(register(engine, session.spec, session.sha256) for session in loaded)
    roots = roots_of(sources, read)
    source = " ".join(map(absolute_source, sources))
    skipped = SkippedFiles()
    queue = local_queue(open_sources(sources, skipped, read), batch_size, files, measuring)
    settings = settings.model_copy(update={"queue": queue})
    stopping = threading.Event()
    services = Services(stopping.is_set)
    unfinished = unfinished_run(engine, settings.queue)
    if retry is None:
        entries = open_sources(sources, options=read)
        run_id = unfinished or create_run(
            *(engine, source, entries, models, roots, batch_size, settings.queue), measuring=measuring
        )
    else:
        run_id = _requeue_failed(engine, settings.queue, unfinished, retry)
    set_fetching(engine, run_id, fetching)
    app = make_app(settings)
    # This process is the user's command, and nothing restarts it: it must not end to be recycled.
    hooks = ProcessHooks(services, lambda reason: None, supervised=False)
    with closing(BatchProcessor(settings, tagger, hooks)) as batches, _worker(app, batches, stopping):
        reconcile(app, engine, settings.queue, settings.max_attempts)  # what an interrupted process had published
        publish_run(app, engine, run_id)
        threads = reaping.reaper_threads(app, engine, settings, services)
        for thread in threads:
            thread.start()
        try:
            seen = _watch(engine, run_id, progress, services)
        finally:
            for thread in threads:
                thread.stop()
    return TaggedRun(engine, seen, models, skipped)


def _requeue_failed(engine: Engine, queue: str, unfinished: int | None, codes: Sequence[ErrorCode]) -> int:
    """Queue the failed images of the newest run again; return the run, which may be unfinished besides."""
    run_id = unfinished or newest_run(engine, queue)
    if run_id is None:
        raise NothingToDo(
            "no earlier run over the same images, bundles and batch size in this database; leave out --retry-failed"
        )
    try:
        requeue_images(engine, run_id, codes, queue, failed_only=True)
    except NothingToDo:
        if unfinished is None:
            raise NothingToDo(f"run {run_id}: no image to retry{' with this code' if codes else ''}") from None
    return run_id


def local_queue(
    entries: Iterable[Entry], batch_size: int, files: NamedBundles, measuring: Measuring | None = None
) -> str:
    """Name a queue for these entries and bundles. No worker serves it, and the same command finds its run again."""
    asked = [measuring.to_json()] if measuring else []
    named = hashlib.sha256(json.dumps([batch_size, sorted(files.files), *asked]).encode())
    for entry in entries:
        named.update(json.dumps([entry.image_key, entry.uri, *([entry.extra] if entry.extra else ())]).encode())
    return f"{LOCAL_QUEUE_PREFIX}{named.hexdigest()[:16]}"


def _watch(engine: Engine, run_id: int, progress: Callable[[RunProgress], None], services: Services) -> RunProgress:
    while True:
        if services.refusal is not None:
            raise services.refusal
        started = time.monotonic()
        seen = run_progress(engine, run_id)
        progress(seen)
        if seen.ended:
            return seen
        # Spend at most a tenth of the time reading the progress, however large the run is.
        time.sleep(max(PROGRESS_SECONDS, 9 * (time.monotonic() - started)))


@contextmanager
def _worker(app: Celery, batches: BatchProcessor, stopping: threading.Event) -> Iterator[None]:
    task.register(app, lambda: batches)
    worker = app.WorkController(
        pool="threads",
        concurrency=batches.settings.concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    thread = threading.Thread(target=worker.start, name="local-worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        for pool in (batches.tagger.pools.fetch, batches.tagger.pools.stores):
            pool.stop_waiting()  # Ctrl-C does not wait for a busy host
        # Batches not yet started stay in SQL. A closing pool must get no more: Celery calls that unrecoverable.
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge(app.conf.task_default_queue)
        logging.getLogger("celery.worker").setLevel(logging.CRITICAL + 1)
        worker.stop()

"""Producer and worker in one process, with no servers: the same code on `memory://` and SQLite."""

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

from producer.sources.open import open_sources, roots_of
from producer.submit import publish_run
from tagmill.broker.app import make_app
from tagmill.bundles.spec import sha256_of
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import BundleError, InputError
from tagmill.ledger.progress import EMBEDDED, RunProgress, run_progress, unfinished_run
from tagmill.ledger.runs import create_run
from tagmill.records import Entry
from tagmill.registry.models import Model, register
from tagmill.settings import Settings
from worker import reaping, task
from worker.batch import ProcessHooks, Runtime
from worker.connections.availability import Services
from worker.devices.device_check import require_device
from worker.inference.session_cache import SessionCache

#: seconds between two looks at the progress
LOOK_SECONDS = 0.1
#: seconds after which a killed process's batches are taken up again
LEASE_SECONDS = 5.0
REAP_SECONDS = 1.0


@dataclass(frozen=True)
class NamedBundles:
    """The bundle files named on the command line, by sha256."""

    files: dict[str, Path]

    def path(self, sha256: str) -> Path:
        """Return the file whose sha256 this is."""
        if sha256 not in self.files:
            raise BundleError(f"bundle {sha256[:12]} of this run is not among those named with --bundle")
        return self.files[sha256]


@dataclass(frozen=True)
class TaggedRun:
    """A run that is done, and the engine to read it with."""

    engine: Engine
    progress: RunProgress
    models: tuple[Model, ...]


def embedded_settings(settings: Settings, database_url: str) -> Settings:
    """Return the settings for one process that is producer, broker and worker."""
    changes = {"lease_seconds": LEASE_SECONDS, "reap_seconds": REAP_SECONDS}
    return settings.model_copy(update={"database_url": database_url, "broker_url": "memory://localhost/"} | changes)


def tag_here(
    settings: Settings,
    sources: Sequence[str],
    bundles: Sequence[Path],
    batch_size: int,
    progress: Callable[[RunProgress], None],
) -> TaggedRun:
    """Tag `sources` in this process and return when every image has an outcome, or the run is cancelled.

    A run over the same entries and bundles that was interrupted goes on; images and bundles that were seen before are
    not inferred again. `progress` is called about ten times a second.
    """
    engine = connect(settings.database_url)
    upgrade(engine)
    files = NamedBundles({sha256_of(path): path for path in bundles})
    if len(files.files) < len(bundles):
        raise InputError("the same bundle is named twice")
    if settings.decode_on_gpu:
        require_device(settings.device, decode_on_gpu=True)
    sessions = SessionCache(settings, files)
    loaded = [sessions.get(sha256) for sha256 in files.files]
    models = tuple(register(engine, session.spec, session.sha256) for session in loaded)
    roots = roots_of(sources)
    source = " ".join(str(Path(source).resolve()) for source in sources)
    settings = settings.model_copy(update={"queue": own_queue(open_sources(sources), batch_size, files)})
    stopping = threading.Event()
    services = Services(stopping.is_set)
    run_id = unfinished_run(engine, settings.queue) or create_run(
        engine, source, open_sources(sources), models, roots, batch_size, settings.queue
    )
    app = make_app(settings)
    # The process is the user's command: nobody starts it again, so nothing but a stuck model ends it.
    host = ProcessHooks(services, lambda reason: None, supervised=False)
    with closing(Runtime(settings, sessions, host)) as runtime, _worker(app, runtime, stopping):
        publish_run(app, engine, run_id)
        reaper = reaping.reaper(app, engine, settings, services)
        reaper.start()
        try:
            seen = _watch(engine, run_id, progress)
        finally:
            reaper.stop()
    return TaggedRun(engine, seen, models)


def own_queue(entries: Iterable[Entry], batch_size: int, files: NamedBundles) -> str:
    """Name a queue for these entries and bundles: no worker serves it, and the same command finds its run again."""
    named = hashlib.sha256(json.dumps([batch_size, sorted(files.files)]).encode())
    for entry in entries:
        named.update(json.dumps([entry.image_key, entry.uri]).encode())
    return f"{EMBEDDED}{named.hexdigest()[:16]}"


def _watch(engine: Engine, run_id: int, progress: Callable[[RunProgress], None]) -> RunProgress:
    while True:
        started = time.monotonic()
        seen = run_progress(engine, run_id)
        progress(seen)
        if seen.ended:
            return seen
        # Look at most a tenth of the time, however large the run.
        time.sleep(max(LOOK_SECONDS, 9 * (time.monotonic() - started)))


@contextmanager
def _worker(app: Celery, runtime: Runtime, stopping: threading.Event) -> Iterator[None]:
    task.register(app, lambda: runtime)
    worker = app.WorkController(
        pool="threads",
        concurrency=runtime.settings.concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    thread = threading.Thread(target=worker.start, name="embedded-worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        # What was not begun waits in SQL. A pool that closes must not be handed more: Celery calls that unrecoverable.
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge(app.conf.task_default_queue)
        logging.getLogger("celery.worker").setLevel(logging.CRITICAL + 1)
        worker.stop()

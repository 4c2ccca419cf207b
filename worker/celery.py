"""The application that `celery -A worker worker` and `celery -A worker flower` start."""

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from celery.signals import celeryd_init, setup_logging, task_success, worker_init, worker_ready, worker_shutdown
from celery.worker import state
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.app import make_app
from tagmill.broker.publish import require_login
from tagmill.db.connection import connect
from tagmill.db.migrate import open_database
from tagmill.errors import ConfigurationError, DatabaseRefusedError, ExitCode, TagmillError, first_line
from tagmill.ledger.faults.workers import Fault, FaultReason
from tagmill.ledger.fleet.workers import Identity, WorkerState, begin, report
from tagmill.logs.configure import configure, log_format
from tagmill.registry.open_store import open_store
from tagmill.settings import Settings, load_settings
from worker.batch import BatchProcessor, ProcessHooks
from worker.connections import redis_channel
from worker.connections.availability import Services
from worker.connections.celery_log import BrokerLog, log_all
from worker.connections.periodic import Periodic
from worker.connections.remote_control import allow_questions_only
from worker.health.health import LOOK_SECONDS, Health, call_once
from worker.pipeline.tagger import build_tagger
from worker.presence import Presence, identity
from worker.reaping import reaper_threads
from worker.supervision.device_check import require_device
from worker.supervision.process import PROBES_VARIABLE, ProcessEnd, is_supervised
from worker.supervision.watchdog import RecycleReason
from worker.task import register

if TYPE_CHECKING:  # only a process that serves metrics loads prometheus-client
    from worker.probes.worker_probes import WorkerProbes

log = logging.getLogger(__name__)

#: what Flower's list of tasks shows: run, batch, images and model are in a task's arguments
FLOWER_COLUMNS = "uuid,state,args,result,received,runtime,worker"


class Process:
    """Builds the batch processor of this process for its first batch, so that a fork before it inherits nothing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.services = Services(_stopping, _end_refused)
        self._batches: BatchProcessor | None = None
        self._parent = os.getpid()
        self._pid = 0
        self._lock = threading.Lock()
        self._reaper: list[Periodic] = []
        self._engine: Engine | None = None
        self._presence: Presence | None = None
        self._probes: WorkerProbes | None = None

    def batches(self) -> BatchProcessor:
        """Return the batch processor of the calling process."""
        with self._lock:
            if self._batches is None or self._pid != os.getpid():
                # The process may have been forked while a thread held one of the locks of the services.
                services = self.services if os.getpid() == self._parent else Services(_stopping, _end_refused)
                tagger = build_tagger(self.settings, open_store(self.settings))
                metrics = self._probes.metrics if self._probes else None
                hooks = ProcessHooks(services, _recycle, supervised=True, unfit=_end_unfit, metrics=metrics)
                self._batches = BatchProcessor(self.settings, tagger, hooks)
                self._pid = os.getpid()
                # What is loaded now stays. Walking through it took the garbage collector 50 ms every few seconds, in
                # which no thread ran Python.
                gc.collect()
                gc.freeze()
            return self._batches

    def check(self, sender: Any, **_: object) -> None:
        """End the worker with one line and an exit code if it cannot work. Wait for a database that is down."""
        try:
            _log_json()
            self._serve_probes(sender.hostname)
            engine = self.services.retry_until_available(lambda: open_database(self.settings.database_url))
            try:
                if not is_supervised():  # else the supervisor has said so
                    self.services.retry_until_available(lambda: begin(engine, self._identity(sender)))
                if not self._is_fit(Health(self.settings, partial(call_once, engine))):
                    report(engine, self._identity(sender), WorkerState.OUT)
                    raise SystemExit(ProcessEnd.UNFIT)
            finally:
                engine.dispose()  # its connections must not survive a fork
            require_login(self.settings)
        except TagmillError as error:
            _end(error)
        except Exception as error:  # Celery would log it and start the worker, unchecked
            _end(ConfigurationError(f"the worker cannot start: {first_line(error)}"))

    def _is_fit(self, health: Health) -> bool:
        """Return whether this worker may take batches. Raise ConfigurationError if it never could."""
        try:
            require_device(self.settings.device, self.settings.decode_on_gpu)
        except ConfigurationError as error:
            if not is_supervised():
                raise
            health.take_out(Fault(FaultReason.DEVICE, str(error)))  # it worked when the supervisor was started
            return False
        return health.check(memory=True)

    def start_reaper(self, sender: Any, **_: object) -> None:
        """Start the threads of the reaper, and the one that looks after this worker."""
        engine = self._engine = connect(self.settings.database_url, worker=True)
        health = Health(self.settings, partial(call_once, engine), _end_unfit, self._loaded)
        presence = self._presence = Presence(self._identity(sender), self._providers)

        def look() -> None:
            asked = time.monotonic()
            if presence.report(engine, _worker_state()):
                _drain()
            health.look()
            self.services.database.answered(asked)

        self._reaper = reaper_threads(app, engine, self.settings, self.services)
        self._reaper.append(Periodic("health", LOOK_SECONDS, look, self.services))
        if self._probes:
            self._reaper.append(self._probes.begin(app, engine, self._reaper))
        for thread in self._reaper:
            thread.start()

    def _serve_probes(self, name: str) -> None:
        """Serve metrics and probes if they are asked for; from now on, so that they say what the start waits for."""
        if PROBES_VARIABLE in os.environ or (self.settings.metrics_port and not is_supervised()):
            from worker.probes.worker_probes import ProcessState, WorkerProbes

            state = ProcessState(_ending, self._providers, self._watched_at)
            self._probes = WorkerProbes(self.settings, name, self.services, state)

    def _watched_at(self) -> float | None:
        return None if self._batches is None else self._batches.watched_at()

    def _loaded(self) -> frozenset[str]:
        return frozenset() if self._batches is None else self._batches.tagger.sessions.loaded()

    def _providers(self) -> Mapping[str, str]:
        return {} if self._batches is None else self._batches.tagger.sessions.providers()

    def _identity(self, sender: Any) -> Identity:
        """Return who this worker is: the same one as long as its supervisor runs."""
        return identity(self.settings, sender.hostname, os.getppid() if is_supervised() else os.getpid())

    def count(self, result: Any, **_: object) -> None:
        """Count a batch that was tagged."""
        if self._presence is not None and "tagged" in result:
            self._presence.finished(result["images"])

    def stop_reaper(self, sender: Any, **_: object) -> None:
        """End the reaper with the worker."""
        for thread in self._reaper:
            thread.stop()
        if self._engine is not None and not is_supervised():  # else the supervisor says so
            with suppress(SQLAlchemyError, DatabaseRefusedError):
                report(self._engine, self._identity(sender), WorkerState.STOPPED)


def _stopping() -> bool:
    return state.should_stop is not None or state.should_terminate is not None


def _worker_state() -> WorkerState:
    if not _stopping():
        return WorkerState.READY
    return WorkerState.OUT if state.should_stop == ProcessEnd.UNFIT else WorkerState.DRAINING


def _drain() -> None:
    """End the process after the current batches, and its supervisor with it: `tagmill worker drain` asked for it."""
    if not _stopping():
        log.warning("asked to drain: ending after the current batches", extra={"action": "worker_draining"})
        state.should_stop = ProcessEnd.DRAINED if is_supervised() else ExitCode.DONE


def _ending() -> str | None:
    """Return why this process takes no more batches."""
    if not _stopping():
        return None
    return "out: the log says why" if state.should_stop == ProcessEnd.UNFIT else "draining"


def _recycle(reason: RecycleReason) -> None:
    """End the process after the current batches: Celery's loop checks this variable, as after SIGTERM."""
    if not _stopping():
        log.warning("ending for a restart", extra={"action": "worker_recycling", "reason": reason})
        state.should_stop = ProcessEnd.RECYCLED


def _end_unfit() -> None:
    """End the process after the current batches: this worker cannot work now. Another one takes what is left."""
    if not _stopping():
        state.should_stop = ProcessEnd.UNFIT


def _end_refused() -> None:
    """End the process: only a person can mend the settings of a server or of Tagmill. Its batches go back."""
    if not _stopping():
        state.should_stop = ExitCode.CONFIGURATION


def _settings() -> Settings:
    try:
        log_format()  # raises for one that is not known
        return load_settings()
    except TagmillError as error:
        _end(error)


def _end(error: TagmillError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before logging is set up
    raise SystemExit(int(error.exit_code)) from None


process = Process(_settings())
redis_channel.install(process.settings.queue)
app = make_app(process.settings)
allow_questions_only(app)
broker_log = BrokerLog(process.services)
register(app, process.batches)


# A user's own variable or option has priority.
os.environ.setdefault("FLOWER_TASKS_COLUMNS", FLOWER_COLUMNS)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _log_from_the_first_line(sender: str, instance: object, **_: object) -> None:
    configure(sender)  # NAME@HOST
    log_all(instance)


@setup_logging.connect  # type: ignore[untyped-decorator]  # celery ships no types
def _log_json(loglevel: int | str | None = None, **_: object) -> None:
    configure()
    broker_log.install()


worker_init.connect(process.check, weak=False)
worker_ready.connect(process.start_reaper, weak=False)
worker_shutdown.connect(process.stop_reaper, weak=False)
task_success.connect(process.count, weak=False)

"""The application that `celery -A worker worker` and `celery -A worker flower` start."""

import os
import sys
import threading
from typing import NoReturn

from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown

from tagmill import logs
from tagmill.broker import make_app
from tagmill.database import connect, open_database
from tagmill.errors import TagmillError
from tagmill.registry import ModelStore
from tagmill.settings import Settings, load_settings
from worker.device import require_device
from worker.periodic import Periodic
from worker.runtime import Runtime
from worker.task import reaper, register


class Process:
    """The one Runtime of this process, built when its first batch comes: a fork before that inherits nothing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._runtime: Runtime | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._reaper: Periodic | None = None

    def runtime(self) -> Runtime:
        """Return the Runtime of the process that calls."""
        with self._lock:
            if self._runtime is None or self._pid != os.getpid():
                self._runtime = Runtime(self.settings, ModelStore(self.settings.model_store))
                self._pid = os.getpid()
            return self._runtime

    def check(self, sender: object, **_: object) -> None:
        """End the worker with one line and its exit code where the database or the device does not fit."""
        try:
            open_database(self.settings.database_url).dispose()  # nothing of it may pass a fork
            require_device(self.settings.device)
        except TagmillError as error:
            _end(error)

    def start_reaper(self, **_: object) -> None:
        """Begin to look for lost work."""
        self._reaper = reaper(app, connect(self.settings.database_url), self.settings)
        self._reaper.start()

    def stop_reaper(self, **_: object) -> None:
        """End the reaper with the worker."""
        if self._reaper is not None:
            self._reaper.stop()


def _settings() -> Settings:
    try:
        return load_settings()
    except TagmillError as error:
        _end(error)


def _end(error: TagmillError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before logging is set up
    raise SystemExit(int(error.exit_code)) from None


process = Process(_settings())
app = make_app(process.settings)
register(app, process.runtime)


@setup_logging.connect  # type: ignore[untyped-decorator]  # celery ships no types
def _log_json(loglevel: int | str | None = None, **_: object) -> None:
    logs.configure(os.environ.get("TAGMILL_LOG_LEVEL", "INFO"))


worker_init.connect(process.check, weak=False)
worker_ready.connect(process.start_reaper, weak=False)
worker_shutdown.connect(process.stop_reaper, weak=False)

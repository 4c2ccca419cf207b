"""The checks of /ready: broker, database, model store, folders, bundles, device, and whether the worker gets on."""

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.publish import open_channel, queue_length
from tagmill.db.connection import database_time
from tagmill.errors import BundleError, DatabaseRefusedError
from tagmill.ledger.faults.runs import waiting_needs
from tagmill.ledger.fleet.needed import served_models
from tagmill.ledger.fleet.waiting import waits_since
from tagmill.registry.open_store import open_store
from tagmill.registry.remote_store import RemoteStore
from tagmill.registry.store import ModelStore
from tagmill.settings import Settings
from worker.connections.availability import Service, Services
from worker.probes.batch_metrics import BatchMetrics
from worker.probes.readiness import Check
from worker.probes.worker_collector import as_asked

#: seconds that a check waits for another one's use of the database
LOCK_SECONDS = 2.0
#: seconds in which a worker with a free slot takes a batch that waits
PROGRESS_SECONDS = 60.0


def ready_checks(
    settings: Settings,
    app: Celery,
    engine: Engine,
    services: Services,
    batches: BatchMetrics,
    providers: Callable[[], Mapping[str, str]],
) -> dict[str, Check]:
    """Return name -> check. Each asks a service or a folder, and may hang."""
    store, folder = open_store(settings), settings.model_store
    one = _OneConnection()
    return {
        "database": lambda: one.used(partial(_database, engine, services.database)),
        "broker": partial(_broker, app, settings.queue, services.broker),
        # One elsewhere is asked for bundles that are not in the cache, which is a matter of `bundles`.
        "model_store": partial(_folder, folder, "TAGMILL_MODEL_STORE") if isinstance(folder, Path) else lambda: None,
        "folders": partial(_folders, settings.allowed_roots),
        "bundles": lambda: one.spared(lambda: _bundles(engine, settings.queue, store, providers().keys())),
        "device": lambda: _device(settings.device, providers()),
        "progress": lambda: one.spared(partial(_progress, engine, settings, batches)),
    }


class _OneConnection:
    """Lets one check at a time use the database, so that a worker needs a single connection more for all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def used(self, check: Check) -> str | None:
        """Return what the check of the database says."""
        with self._lock:
            return check()

    def spared(self, check: Check) -> str | None:
        """Return what a check says for which the database is only read; nothing if that is down."""
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return None  # another one hangs, and says so
        try:
            return check()
        except (SQLAlchemyError, DatabaseRefusedError):
            return None
        finally:
            self._lock.release()


def down(service: Service) -> str | None:
    """Return that a service is down, as the threads of the worker know it."""
    since = service.down_since
    return None if since is None else f"down for {time.monotonic() - since:.0f} s"


def _database(engine: Engine, service: Service) -> str | None:
    database_time(engine)
    return down(service)


def _broker(app: Celery, queue: str, service: Service) -> str | None:
    with open_channel(app) as channel:
        queue_length(channel, queue)
    return down(service)


def _folder(folder: Path, setting: str) -> str | None:
    try:
        with os.scandir(folder) as names:
            next(names, None)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return f"{folder}: {reason}; mount it on this worker and let its user read it, or correct {setting}"
    return None


def _folders(roots: Collection[Path]) -> str | None:
    return next((reason for root in roots if (reason := _folder(root, "TAGMILL_ALLOWED_ROOTS"))), None)


def _bundles(engine: Engine, queue: str, store: ModelStore | RemoteStore, loaded: Collection[str]) -> str | None:
    """Return which bundle is missing that a waiting run needs, or that is in production or tried beside it.

    One that is loaded needs no file any more. What waits is verified; of what no run needs yet, the file is looked up.
    """
    needed = {sha256 for need in waiting_needs(engine, queue) for sha256 in need.models}
    for sha256 in sorted(needed.difference(loaded)):
        try:
            store.verified(sha256)
        except BundleError as error:
            return str(error)  # a store that is down raises another error
    for model in served_models(engine):
        if model.sha256 not in needed and model.sha256 not in loaded:
            try:
                store.require(model.sha256)
            except BundleError as error:
                return f"{model.title}: {error}"
    return None


def _device(device: str, providers: Mapping[str, str]) -> str | None:
    if as_asked(device, providers):
        return None
    return f"a bundle runs on {', '.join(sorted(set(providers.values())))}, and TAGMILL_DEVICE is {device}"


def _progress(engine: Engine, settings: Settings, batches: BatchMetrics) -> str | None:
    """Return that this worker takes nothing although it could."""
    idle = time.monotonic() - batches.claimed_at
    running, _ = batches.in_work()
    if running >= settings.concurrency or idle < PROGRESS_SECONDS:
        return None
    if not waits_since(engine, settings.queue, PROGRESS_SECONDS):
        return None
    return f"batches wait, and this worker has taken none for {idle:.0f} s; restart it"

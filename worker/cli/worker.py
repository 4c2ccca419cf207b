"""`tagmill worker`: start a supervised worker."""

import logging
import os
from contextlib import suppress
from functools import partial

import click
from sqlalchemy.exc import SQLAlchemyError

from tagmill import logs
from tagmill.broker.app import require_shared_broker
from tagmill.broker.publish import require_login
from tagmill.cli.param_types import DEVICE
from tagmill.db.migrate import open_database
from tagmill.errors import DatabaseRefusedError
from tagmill.ledger.reaper import requeue_owned
from tagmill.settings import load_settings
from worker.health.health import Health, call_once
from worker.supervision.device_check import require_device
from worker.supervision.supervisor import Supervisor, worker_command

log = logging.getLogger(__name__)


@click.group()
def worker() -> None:
    """Start a supervised worker."""


@worker.command("start")
@click.option("--queue", help="Instead of TAGMILL_QUEUE.")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Batches in progress at the same time.  [default: 3]")
@click.option("--name", default="worker", show_default=True, help="Name shown in Flower, before the host's.")
@DEVICE
def start(queue: str | None, concurrency: int | None, name: str, device: str | None) -> int:
    """Run one worker process and start it again when it dies. SIGTERM finishes the current batches."""
    settings = load_settings(queue=queue, concurrency=concurrency, device=device)
    require_shared_broker(settings)
    logs.configure(os.environ.get("TAGMILL_LOG_LEVEL", "INFO"))
    engine = open_database(settings.database_url)
    require_login(settings)
    require_device(settings.device, settings.decode_on_gpu)
    options = {"TAGMILL_QUEUE": settings.queue, "TAGMILL_DEVICE": settings.device}
    options["TAGMILL_CONCURRENCY"] = str(settings.concurrency)

    def free(process: str) -> int:
        try:
            freed = requeue_owned(engine, process)
        except (SQLAlchemyError, DatabaseRefusedError):
            return 0  # the database is down, or refuses this worker: their leases will expire
        if freed:
            log.info("batches of a dead worker were requeued", extra={"action": "batches_freed", "batches": freed})
        return freed

    health = Health(settings, partial(call_once, engine), supervisor=os.getpid())
    supervisor = Supervisor(worker_command(settings, name), os.environ | options, free, health.check)
    try:
        return supervisor.run()
    finally:
        with suppress(SQLAlchemyError, DatabaseRefusedError):
            health.clear()

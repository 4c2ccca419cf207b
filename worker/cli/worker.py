"""`tagmill worker`: start a supervised worker, list the workers, and drain them."""

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.text import Text
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.app import require_shared_broker
from tagmill.broker.publish import require_login
from tagmill.cli.param_types import AS_JSON, DEVICE
from tagmill.cli.terminal.console import open_console
from tagmill.db.connection import database_time
from tagmill.db.migrate import open_database
from tagmill.errors import DatabaseRefusedError, InputError, NothingToDo
from tagmill.ledger.batches.reaper import requeue_owned
from tagmill.ledger.faults.workers import fault_of
from tagmill.ledger.fleet.workers import Worker, WorkerState, ask_to_drain, list_workers
from tagmill.logs.configure import configure
from tagmill.settings import Settings, load_settings
from tagmill.text import legible, trim
from worker.cli.worker_table import print_workers
from worker.health.health import Health, call_once
from worker.presence import SupervisedPresence, identity
from worker.supervision.device_check import require_device
from worker.supervision.process import worker_id
from worker.supervision.supervisor import Supervisor, worker_command

if TYPE_CHECKING:
    from worker.probes.relay import Relay

log = logging.getLogger(__name__)

#: seconds for which a worker that was lost is listed
SHOWN_SECONDS = 3600.0
#: seconds between two looks at workers that drain
POLL_SECONDS = 1.0


@click.group()
def worker() -> None:
    """Start a supervised worker, list workers, and drain them."""


@worker.command("start")
@click.option("--queue", help="Instead of TAGMILL_QUEUE.")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Batches in progress at the same time.  [default: 3]")
@click.option("--name", default="worker", show_default=True, help="Name shown in Flower, before the host's.")
@DEVICE
def start(queue: str | None, concurrency: int | None, name: str, device: str | None) -> int:
    """Run one worker process and start it again when it dies. SIGTERM finishes the current batches."""
    if not trim(name):
        raise InputError("--name is empty; name the worker, such as gpu0")
    configure(f"{name}@{socket.gethostname()}")
    settings = load_settings(queue=queue, concurrency=concurrency, device=device)
    require_shared_broker(settings)
    engine = open_database(settings.database_url)
    require_login(settings)
    presence = SupervisedPresence(engine, identity(settings, f"{name}@%h", os.getpid()))
    options = {"TAGMILL_QUEUE": settings.queue, "TAGMILL_DEVICE": settings.device}
    options["TAGMILL_CONCURRENCY"] = str(settings.concurrency)
    relay = open_relay(settings, lambda: fault_of(engine, worker_id(os.getpid())))

    def free(process: str) -> int:
        try:
            freed = requeue_owned(engine, process)
        except (SQLAlchemyError, DatabaseRefusedError):
            return 0  # the database is down, or refuses this worker: their leases will expire
        if freed:
            log.info("batches of a dead worker were requeued", extra={"action": "batches_freed", "batches": freed})
        return freed

    health = Health(settings, partial(call_once, engine), supervisor=os.getpid())
    environment = os.environ | options | (relay.environment if relay else {})
    supervisor = Supervisor(worker_command(settings, name), environment, free, health.check, presence.tell, relay)
    presence.begin()
    try:
        require_device(settings.device, settings.decode_on_gpu)
        return supervisor.run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut this short
        presence.tell(WorkerState.STOPPED)
        with suppress(SQLAlchemyError, DatabaseRefusedError):
            health.clear()
        if relay:
            relay.close()


@worker.command("list")
@click.option("--queue", help="Only workers of this queue.")
@click.option("--all", "every", is_flag=True, help="Also those that ended within a day.")
@AS_JSON
def list_command(queue: str | None, every: bool, as_json: bool) -> None:
    """Show the workers: where they run, what they have loaded, and what they do.

    A worker that has not reported for 30 seconds is lost: it was killed, is frozen, or does not reach the database.
    """
    engine = open_database(load_settings().database_url)
    now = database_time(engine)
    workers = [found for found in list_workers(engine) if _is_shown(found, queue, every, now)]
    if as_json:
        click.echo(json.dumps([found.to_json() for found in workers]))
    elif workers:
        print_workers(open_console(highlight=False), workers, now)
    else:
        click.echo("no workers; start one with `tagmill worker start`" + ("" if every else ", or add --all"))


@worker.command("drain")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--host", help="All workers of this machine, or NAME there.")
@click.option("--wait", is_flag=True, help="Return when they have ended.")
def drain(name: str | None, host: str | None, wait: bool) -> None:
    """Let workers finish the batches in hand, take no more, and end.

    NAME is that of `tagmill worker list`, alone if it is unique, or NAME@HOST. Of workers that share one, it is the
    HOST:PID that the list shows below it. The workers notice within seconds. A worker that is started again works.
    """
    engine = open_database(load_settings().database_url)
    workers = _chosen([found for found in list_workers(engine) if found.alive], name, host)
    ask_to_drain(engine, workers)
    names = legible(", ".join(found.name for found in workers))
    if not wait:
        click.echo(f"asked to drain: {names}")
        return
    with open_console(stderr=True).status(Text(f"{names}: finishing the batches in hand")):
        lost = _wait(engine, {found.worker: found.started_at for found in workers})
    for found in lost:
        click.echo(f"{legible(found.name)} is lost; others take its batches when their leases end", err=True)
    ended = ", ".join(found.name for found in workers if found.worker not in {one.worker for one in lost})
    if ended:
        click.echo(f"drained: {legible(ended)}")


def _is_shown(found: Worker, queue: str | None, every: bool, now: float) -> bool:
    if queue is not None and found.queue != queue:
        return False
    recent = found.state is WorkerState.LOST and now - found.seen_at < SHOWN_SECONDS
    return every or found.alive or recent


def _chosen(workers: Sequence[Worker], name: str | None, host: str | None) -> list[Worker]:
    """Return the workers that are meant. Raise InputError if that is not clear, and NothingToDo if there are none."""
    if name is None and host is None:
        raise InputError("name a worker, or a machine with --host; `tagmill worker list` shows them")
    found = [one for one in workers if host is None or one.host == host]
    if name is not None:
        found = [one for one in found if name in (one.name, one.worker, one.name.rpartition("@")[0])]
    if not found:
        raise NothingToDo(f"no such worker runs: {name or host}; see `tagmill worker list`")
    if name is not None and len(found) > 1:
        key = "worker" if len({one.name for one in found}) < len(found) else "name"
        raise InputError(f"{name} is not one worker; name one of {', '.join(getattr(one, key) for one in found)}")
    return found


def _wait(engine: Engine, started: dict[str, float]) -> list[Worker]:
    """Return when the workers with these start times have ended; return those that were lost instead."""
    while True:
        now = {one.worker: one for one in list_workers(engine) if started.get(one.worker) == one.started_at}
        if not any(one.alive for one in now.values()):
            return [one for one in now.values() if one.state is WorkerState.LOST]
        time.sleep(POLL_SECONDS)


def open_relay(settings: Settings, fault: Callable[[], str | None]) -> "Relay | None":
    """Serve metrics and probes, if the settings name a port. Raise ConfigurationError if it is busy.

    `fault` reads from the database why this worker is out.
    """
    if not settings.metrics_port:
        return None
    from worker.probes.relay import Relay  # loads prometheus-client

    return Relay(settings, fault)

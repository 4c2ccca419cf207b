"""Measure how long workers wait for the database while a large run is submitted, and how long the reaper looks.

`PYTHONPATH=tests python -m benchmarks.worker.waiting --batches 250000 [--json FILE]` starts its own PostgreSQL and
Redis, and `--workers` processes that receive messages and claim batches as `worker.batch` does. They are idle until a
further process submits a run with `create_run` and `publish_run`. No image is read: a worker takes `--seconds` for a
batch, and then completes it with failures. The statistics of all tables are from before the run, and autovacuum is off.
One worker runs the reaper, once a second.

*First claim* is the time from the start of publishing to the first batch that a worker got.
"""

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import func, select, text
from support.filled import add_tagged_run, without_autovacuum
from support.processes import environment
from support.services import PostgresServer, RedisServer, create_database

from benchmarks.support.machine import tell
from producer.publish import publish_run
from tagmill.broker.app import make_app
from tagmill.broker.message import BatchMessage
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import batch
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches.conditions import QUEUED
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.runs.create import create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, Outcome
from tagmill.registry.models import register, resolve
from tagmill.settings import load_settings
from tagmill.tasks.classify import CLASSIFY
from worker.connections import redis_channel
from worker.connections.availability import Services
from worker.connections.ledger import Ledger
from worker.reaping import reap

ROOT = Path(__file__).parents[2]
#: entries of a batch
BATCH_SIZE = 16
#: seconds for which the workers are idle before the submit, and for which they go on after it
BEFORE, AFTERWARDS = 3.0, 20.0
#: messages that a worker takes from Redis in advance
PREFETCH = 3


class Journal:
    """A file with one line of JSON for each event of a process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, event: str, began: float, **facts: object) -> None:
        """Write what happened from `began` until now, in Unix seconds."""
        self._file.write(json.dumps({"event": event, "at": began, "seconds": time.time() - began} | facts) + "\n")


def work(name: str, journal: Journal, seconds: float, *, reaps: bool) -> None:
    """Receive messages and claim their batches, until SIGTERM."""
    settings = load_settings()
    redis_channel.install(settings.queue)
    app, engine, services = make_app(settings), connect(settings.database_url, worker=True), Services()
    ledger, stopping = Ledger(engine, services), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def look() -> None:
        reap_app, reap_engine = make_app(settings), connect(settings.database_url, worker=True)
        while not stopping.wait(settings.reap_seconds):
            began = time.time()
            published = reap(reap_app, reap_engine, settings, services)
            journal.write("look", began, published=published)

    def received(body: Any, message: Any) -> None:
        found = BatchMessage.from_json(body[0][0])
        began = time.time()
        claimed = ledger.claim(found, settings.queue, Lease(f"{name}:{found.batch}", 60.0, settings.max_attempts))
        journal.write("claim", began, got=claimed is not None)
        if claimed is not None:
            time.sleep(seconds)
            failed = [Outcome(entry.position, error_code=ErrorCode.NOT_FOUND) for entry in claimed.images]
            began = time.time()
            ledger.complete(claimed, BatchResult(failed, [], []), name)
            journal.write("complete", began)
        message.ack()

    if reaps:
        threading.Thread(target=look, daemon=True).start()
    with app.connection_for_read() as connection:
        consumer = connection.Consumer(app.conf.task_queues, callbacks=[received], accept=["json"])
        consumer.qos(prefetch_count=PREFETCH)
        with consumer:
            journal.write("ready", time.time())
            while not stopping.is_set():
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    continue


def submit(journal: Journal, batches: int) -> None:
    """Write and publish a run."""
    settings = load_settings()
    engine, app = connect(settings.database_url), make_app(settings)
    model = resolve(engine, "bench")
    began = time.time()
    entries: Iterable[Entry] = (
        Entry(f"sku-{n:09d}", f"/pictures/{n % 1000:03d}/{n:09d}.jpg") for n in range(batches * BATCH_SIZE)
    )
    run_id = create_run(engine, "bench", entries, [model], [Path("/pictures")], BATCH_SIZE, settings.queue)
    journal.write("written", began)
    began = time.time()
    publish_run(app, engine, run_id)
    journal.write("published", began)


class Fleet:
    """The servers, the idle workers and a folder with the journals of all processes."""

    def __init__(self, stack: ExitStack, workers: int, seconds: float) -> None:
        self.server = stack.enter_context(PostgresServer())
        broker = stack.enter_context(RedisServer())
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = create_database(self.server.url)
        self.engine = connect(url)
        stack.callback(self.engine.dispose)
        self._prepare()
        self._env = environment(database_url=url, broker_url=broker.url) | {"PYTHONPATH": str(ROOT / "tests")}
        self._workers = [
            self._start(
                number, "--worker", f"host:{number}", "--seconds", seconds, *(["--reaps"] if number == 0 else [])
            )
            for number in range(workers)
        ]
        stack.callback(self.stop)
        while len(self.events("ready")) < workers:
            if any(process.poll() is not None for process in self._workers):
                raise RuntimeError("a worker ended")
            time.sleep(0.1)

    def submit(self, batches: int) -> None:
        """Submit a run in a process of its own, and wait until it is published."""
        process = self._start("submit", "--submit", "--batches", batches)
        if process.wait():
            raise RuntimeError("the submit failed")

    def stop(self) -> None:
        """End the workers."""
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            process.wait()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one name so far, in their order."""
        lines = (line for path in self.folder.glob("*.jsonl") for line in path.read_text().splitlines())
        found = [event for event in map(json.loads, lines) if event["event"] == name]
        return sorted(found, key=lambda event: float(event["at"]))

    def queued(self) -> int:
        """Return the number of queued batches."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(batch).where(QUEUED)).scalar_one())

    def _prepare(self) -> None:
        upgrade(self.engine)
        model = register(self.engine, BundleSpec("bench", CLASSIFY, ("a",), PreprocessSpec(8, 8)), "f" * 64)
        without_autovacuum(self.engine)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            add_tagged_run(connection, model, 640)
            connection.execute(text("ANALYZE"))

    def _start(self, name: object, *arguments: object) -> subprocess.Popen[bytes]:
        journal = self.folder / f"{name}.jsonl"
        command = [sys.executable, "-m", "benchmarks.worker.waiting", "--journal", journal, *arguments]
        return subprocess.Popen([str(part) for part in command], env=self._env, cwd=ROOT)


def measure(batches: int, workers: int, seconds: float, afterwards: float = AFTERWARDS) -> dict[str, float]:
    """Submit a run beside idle workers, and return what was measured."""
    with ExitStack() as stack:
        fleet = Fleet(stack, workers, seconds)
        tell(f"PostgreSQL {fleet.server.version}, {workers} idle workers")
        time.sleep(BEFORE)
        fleet.submit(batches)
        tell("published")
        time.sleep(afterwards)
        queued = fleet.queued()
        fleet.stop()
        return summary(fleet, queued)


def summary(fleet: Fleet, queued: int) -> dict[str, float]:
    """Return the numbers that the table shows."""
    (written,), (published,) = fleet.events("written"), fleet.events("published")
    claims = fleet.events("claim")
    got = [event["at"] + event["seconds"] for event in claims if event["got"]]
    looks = fleet.events("look")
    end = published["at"] + published["seconds"]
    beside = [event["seconds"] for event in looks if published["at"] <= event["at"] < end]
    after = [event["seconds"] for event in looks if event["at"] >= end]
    return {
        "queued afterwards": queued,
        "write, s": written["seconds"],
        "publish, s": published["seconds"],
        "claims": len(claims),
        "first claim, s": min(got) - published["at"],
        **_times("claim", [event["seconds"] for event in claims]),
        **_times("complete", [event["seconds"] for event in fleet.events("complete")]),
        "looks": len(looks),
        **_times("look beside the submit", beside),
        **_times("look afterwards", after),
    }


def _times(name: str, seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {f"{name}, median ms": 1000 * statistics.median(seconds), f"{name}, longest ms": 1000 * max(seconds)}


def main() -> None:
    """Measure, and print a table; or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=250_000, help=f"batches of {BATCH_SIZE} images")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.2, help="time that a worker takes for a batch")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--reaps", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--submit", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, Journal(options.journal), options.seconds, reaps=options.reaps)
    elif options.submit:
        submit(Journal(options.journal), options.batches)
    else:
        print(
            f"Python {platform.python_version()}, psycopg {psycopg.__version__}; {options.batches:,} batches of "
            f"{BATCH_SIZE} images, {options.workers} workers, {options.seconds} s a batch",
            flush=True,
        )
        found = measure(options.batches, options.workers, options.seconds)
        print("| measured | |\n|---|---|")
        for name, value in found.items():
            print(f"| {name} | {value:,.1f} |" if value % 1 else f"| {name} | {value:,.0f} |")
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""One worker without images: it takes messages from Redis as Celery does, and answers them with synthetic results.

Everything that it says to SQL and Redis is real: `Ledger`, `Heartbeat` and the reaper of `worker/`, with separate
connections for each, and Celery's consumer on the project's channel.
"""

import random
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from typing import Any, NamedTuple

from benchmarks.support.fleet.load import Load, Place
from benchmarks.support.fleet.synthetic import SyntheticResults
from tagmill.broker.app import make_app
from tagmill.broker.message import BatchMessage
from tagmill.db.connection import connect
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.settings import Settings
from worker.connections import redis_channel
from worker.connections.availability import Services
from worker.connections.ledger import Ledger
from worker.heartbeat import Heartbeat
from worker.reaping import reaper_threads

#: seconds after which a thread that waits for a message looks whether it has to end
LOOK_SECONDS = 0.2
#: seconds until all processes have connected
START_SECONDS = 120


class Finished(NamedTuple):
    """One batch. `at`, in seconds of the clock that all processes share, is the end of its `complete`."""

    at: float
    images: int
    #: seconds
    claim: float
    known: float
    complete: float
    acknowledge: float


@dataclass
class Report:
    """What a process did. `dropped` counts batches that were not free or were lost to another worker."""

    finished: list[Finished]
    dropped: int = 0
    #: the traceback of the first error
    error: str | None = None


class FleetWorker:
    """One worker: as many threads as it has batches in work, its heartbeat and its reaper."""

    def __init__(
        self, number: int, place: Place, load: Load, results: SyntheticResults, stopped: Event, done: Any
    ) -> None:
        settings = Settings(
            database_url=place.database_url,
            broker_url=place.broker_url,
            queue=place.queue,
            concurrency=load.concurrency,
        )
        self.report = Report([])
        self._settings, self._results, self._stopped, self._done = settings, results, stopped, done
        self._name, self._think_seconds = f"worker-{number}", load.think_ms / 1000
        self._app = make_app(settings)
        services = Services(stopping=stopped.is_set)
        self._engine = connect(settings.database_url, worker=True)
        self._reaper_engine = connect(settings.database_url, worker=True)
        self._ledger = Ledger(self._engine, services)
        self._heartbeat = Heartbeat(self._engine, settings.lease_seconds, services)
        self._reapers = reaper_threads(self._app, self._reaper_engine, settings, services)
        self._connection: Any = self._app.connection_for_read()
        self._received: deque[Any] = deque()
        self._consumer: Any = self._app.amqp.TaskConsumer(
            self._connection.channel(), on_message=self._received.append, prefetch_count=settings.concurrency
        )
        self._receiving = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(settings.concurrency)]

    def start(self) -> None:
        """Start to take messages."""
        for reaper in self._reapers:
            reaper.start()
        self._consumer.consume()
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the end of the last batch, and close the connections."""
        for thread in self._threads:
            thread.join()
        for reaper in self._reapers:
            reaper.stop()
        self._heartbeat.stop()
        self._ledger.close()
        for reaper in self._reapers:
            reaper.join()
        self._consumer.cancel()
        self._connection.close()
        self._app.close()
        self._engine.dispose()
        self._reaper_engine.dispose()

    def _work(self) -> None:
        try:
            while (message := self._receive()) is not None:
                self._process(message)
        except Exception:
            self.report.error = self.report.error or traceback.format_exc()
            self._stopped.set()

    def _receive(self) -> Any | None:
        """Return the next message, None at the end. The threads take turns: only a free one asks Redis."""
        with self._receiving:
            while not self._stopped.is_set():
                try:
                    self._connection.drain_events(timeout=LOOK_SECONDS)
                except TimeoutError:
                    continue
                if self._received:
                    return self._received.popleft()
        return None

    def _process(self, message: Any) -> None:
        ledger, settings = self._ledger, self._settings
        accepted = BatchMessage.from_json(message.decode()[0][0])
        lease = Lease(f"{self._name}:{uuid.uuid4().hex}", settings.lease_seconds, settings.max_attempts)
        watch = _Stopwatch()
        claimed = ledger.claim(accepted, settings.queue, lease)
        claim = watch.lap()
        if claimed is None:
            ledger.exists(accepted, settings.queue)
            written = False
        else:
            with self._heartbeat.holding(lease.token):
                identities, shas = self._results.hashes(claimed)
                watch.lap()
                found = self._known(claimed, identities, shas)
                known = watch.lap()
                time.sleep(random.uniform(0, 2 * self._think_seconds))  # in step, all batches would meet
                result = self._results.result(claimed, identities, shas, found)
                watch.lap()
                written = ledger.complete(claimed, result, self._name)
                ended, complete = time.monotonic(), watch.lap()
        message.ack()
        if claimed is None or not written:
            self.report.dropped += 1
            return
        self.report.finished.append(Finished(ended, len(claimed.images), claim, known, complete, watch.lap()))
        with self._done.get_lock():
            self._done.value += 1

    def _known(self, claimed: Claim, identities: Sequence[str], shas: Sequence[str]) -> set[str]:
        """Return the sha256 of the images that need no inference, as the stages of a batch find them."""
        found = set(self._ledger.unchanged_files(claimed.models, identities).values())
        read = [sha256 for sha256 in shas if sha256 not in found]
        if read:
            found |= {sha256 for sha256, _ in self._ledger.known_inferences(claimed.models, read)}
        return found


class _Stopwatch:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        """Return the seconds since the last call."""
        last, self._last = self._last, time.monotonic()
        return self._last - last


def run_process(
    numbers: Sequence[int], place: Place, load: Load, ready: Barrier, stopped: Event, done: Any, reports: Connection
) -> None:
    """Run some workers in this process until `stopped` is set; then send their report.

    `done` is a shared counter of finished batches. At `ready` all processes begin at once.
    """
    report = Report([])
    try:
        redis_channel.install(place.queue)
        results = SyntheticResults(place.model, load.masks)
        workers = [FleetWorker(number, place, load, results, stopped, done) for number in numbers]
        ready.wait(START_SECONDS)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            report.finished += worker.report.finished
            report.dropped += worker.report.dropped
            report.error = report.error or worker.report.error
    except Exception:
        report.error = report.error or traceback.format_exc()
        stopped.set()
        ready.abort()
    reports.send(report)

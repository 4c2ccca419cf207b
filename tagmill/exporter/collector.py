"""The metrics of the exporter."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tagmill.exporter.cached import Cached
from tagmill.exporter.readings import ALIVE, BrokerMemory, Ledger
from tagmill.ledger.fleet.queue_state import RUN_STATES, WORK, Work
from tagmill.priority import Priority


class QueueCollector(Collector):
    """Makes the metrics of what SQL and Redis say. While one of them is down, its metrics are absent."""

    def __init__(self, queue: str, database: Cached[Ledger], broker: Cached[BrokerMemory] | None) -> None:
        """`queue` is shown even if nothing is in it. `broker` is None if it is in the memory of another process."""
        self._queue = queue
        self._database = database
        self._broker = broker

    def describe(self) -> Iterable[Metric]:
        """Return nothing: to register is not to ask the services."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        ledger = self._database.get()
        yield _gauge("tagmill_database_up", "1 if SQL could be read.", int(ledger is not None))
        yield _gauge("tagmill_exporter_scrape_seconds", "Seconds that reading SQL took last.", self._database.seconds)
        if ledger is not None:
            yield from _of_ledger(ledger, self._queue)
        if self._broker is not None:
            memory = self._broker.get()
            yield _gauge("tagmill_broker_up", "1 if Redis answers.", int(memory is not None))
            yield from _of_broker(memory)


def _of_ledger(ledger: Ledger, queue: str) -> Iterator[Metric]:
    state = ledger.state
    queues = {queue, *state.dead, *(key[0] for key in state.work), *(key[0] for key in ledger.workers)}
    yield from _work(ledger, sorted(queues))
    runs = _gauges("tagmill_runs", "Runs; those that are open have work left.", "state")
    for name in RUN_STATES:
        runs.add_metric([name], state.runs[name])
    yield runs
    batches = _gauges("tagmill_dead_batches", "Batches that were given up and not retried.", "queue")
    images = _gauges("tagmill_dead_images", "Images of these batches.", "queue")
    workers = _gauges("tagmill_workers", "Workers that have reported lately.", "queue", "state")
    for name in sorted(queues):
        dead = state.dead.get(name, Work())
        batches.add_metric([name], dead.batches)
        images.add_metric([name], dead.images)
        for one in ALIVE:
            workers.add_metric([name, one.value], ledger.workers[name, one.value])
    yield from (batches, images, workers)
    out = _gauges("tagmill_workers_out", "Workers that take no batches because of a fault.", "queue", "reason")
    for (name, reason), count in sorted(state.out.items()):
        out.add_metric([name, reason], count)
    yield out
    yield _gauge("tagmill_lease_expired", "Running batches whose lease is over.", state.expired)
    yield _gauge("tagmill_runs_waiting_for_worker", "Runs that need what no worker has.", state.held)


def _work(ledger: Ledger, queues: Iterable[str]) -> Iterator[Metric]:
    labels = ("queue", "priority", "status")
    images = _gauges("tagmill_queue_images", "Images that wait or are in work, of runs that are open.", *labels)
    batches = _gauges("tagmill_queue_batches", "Batches that wait or are in work, of runs that are open.", *labels)
    oldest = _gauges("tagmill_oldest_queued_seconds", "For how long the oldest batch has waited.", *labels[:2])
    for queue in queues:
        for priority in Priority:
            for status in WORK:
                found = ledger.state.work.get((queue, priority, status), Work())
                images.add_metric([queue, priority.word, status], found.images)
                batches.add_metric([queue, priority.word, status], found.batches)
            waiting = ledger.state.work.get((queue, priority, WORK[0]), Work())
            oldest.add_metric([queue, priority.word], waiting.oldest_seconds or 0.0)
    yield from (images, batches, oldest)


def _of_broker(memory: BrokerMemory | None) -> Iterator[Metric]:
    if memory is not None and memory.used is not None and memory.limit is not None:
        yield _gauge("tagmill_broker_memory_bytes", "Memory that Redis uses.", memory.used)
        yield _gauge("tagmill_broker_memory_limit_bytes", "maxmemory of Redis; 0: no limit.", memory.limit)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _gauges(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)

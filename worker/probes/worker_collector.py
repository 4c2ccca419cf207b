"""Read what a worker process is at the moment of a scrape: memory, work, services, models."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tagmill.device import Device
from worker.connections.availability import Services
from worker.devices.provider_options import CUDA, PROVIDER_OF, has_gpu
from worker.inference.call_tracker import DEVICE_CLOCK
from worker.probes.batch_metrics import BatchMetrics
from worker.supervision.memory import resident_bytes


@dataclass(frozen=True)
class WorkerFacts:
    """What the metrics of a worker are read from."""

    #: NAME@HOST, as Flower shows it
    name: str
    #: TAGMILL_QUEUE
    queue: str
    #: TAGMILL_DEVICE
    device: str
    #: bytes that the process may hold
    memory_limit: int
    services: Services
    batches: BatchMetrics
    #: returns sha256 -> provider of the bundles that are loaded
    providers: Callable[[], Mapping[str, str]]
    #: whether it can take batches, as /ready says
    is_ready: Callable[[], bool]


class WorkerCollector(Collector):
    """Makes the metrics that are read, not counted."""

    def __init__(self, facts: WorkerFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        facts = self._facts
        batches, images = facts.batches.in_work()
        yield _gauge("tagmill_inflight_batches", "Batches in work.", batches)
        yield _gauge("tagmill_inflight_images", "Images of the batches in work.", images)
        busy = "Seconds in which at least one inference call ran."
        yield CounterMetricFamily("tagmill_device_busy_seconds", busy, DEVICE_CLOCK.seconds())
        yield _gauge("tagmill_memory_bytes", "Resident memory of the worker process.", resident_bytes())
        limit = "Memory above which the worker process is restarted."
        yield _gauge("tagmill_memory_limit_bytes", limit, facts.memory_limit)
        last = "When a batch was last written, in Unix seconds; 0 before the first."
        yield _gauge("tagmill_last_batch_timestamp_seconds", last, facts.batches.written_at)
        yield _gauge("tagmill_worker_ready", "1 if /ready answers 200.", int(facts.is_ready()))
        yield from self._services()
        yield from self._models()

    def _services(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("tagmill_service_up", "0 while the worker waits for it.", labels=["service"])
        outages = CounterMetricFamily("tagmill_outages", "How often it went down.", labels=["service"])
        for service in (self._facts.services.database, self._facts.services.broker):
            up.add_metric([service.name], int(service.down_since is None))
            outages.add_metric([service.name], service.outages)
        yield up
        yield outages

    def _models(self) -> Iterator[Metric]:
        facts, providers = self._facts, self._facts.providers()
        labels = ["name", "version", "sha256", "provider"]
        models = GaugeMetricFamily("tagmill_model_info", "1 for each bundle that is loaded.", labels=labels)
        for sha256, provider in sorted(providers.items()):
            name, _, number = facts.batches.models.get(sha256, "").rpartition("@")
            models.add_metric([name, number, sha256, provider], 1)
        yield models
        running = ", ".join(sorted(set(providers.values())))
        labels = ["name", "queue", "version", "device", "provider"]
        info = GaugeMetricFamily("tagmill_worker_info", "1, with what the worker is.", labels=labels)
        info.add_metric([facts.name, facts.queue, version("tagmill"), facts.device, running], 1)
        yield info
        right = "0 if a bundle runs on another device than TAGMILL_DEVICE asks for."
        yield _gauge("tagmill_provider_as_asked", right, int(as_asked(facts.device, providers)))


def as_asked(device: str, providers: Mapping[str, str]) -> bool:
    """Return whether all bundles that are loaded run on what `device` names; for `auto`, on a GPU if there is one."""
    kind = Device.parse(device).kind
    asked = CUDA if kind == "auto" and has_gpu() else PROVIDER_OF.get(kind)
    return asked is None or all(provider == asked for provider in providers.values())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)

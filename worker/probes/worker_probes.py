"""The metrics and probes of a worker process: /metrics, /live and /ready."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from celery import Celery
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from sqlalchemy import Engine

from tagmill.http.endpoints import Answer, Endpoints, serve, serve_socket
from tagmill.settings import Settings
from worker.connections.availability import Services
from worker.connections.periodic import Periodic
from worker.probes.batch_metrics import BatchMetrics
from worker.probes.checks import down, ready_checks
from worker.probes.liveness import live_answer, silence_limit
from worker.probes.readiness import CHECK_SECONDS, Readiness
from worker.probes.worker_collector import WorkerCollector, WorkerFacts
from worker.supervision.memory import memory_limit
from worker.supervision.process import PROBES_VARIABLE


@dataclass(frozen=True)
class ProcessState:
    """What the probes ask the process."""

    #: returns why it takes no batches, such as `draining`; None if it takes some
    ending: Callable[[], str | None]
    #: returns sha256 -> provider of the bundles that are loaded
    providers: Callable[[], Mapping[str, str]]
    #: returns when the watchdog last checked, in monotonic seconds; None before the first batch
    watched_at: Callable[[], float | None]


class WorkerProbes:
    """Answers from the start of the process on. Raise ConfigurationError if the port is not free."""

    def __init__(self, settings: Settings, name: str, services: Services, state: ProcessState) -> None:
        """`name` is NAME@HOST."""
        self._settings = settings
        self._services = services
        self._state = state
        self._threads: list[Thread] = []
        self._started = False
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client is partly typed
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self.metrics = BatchMetrics(self._registry)
        self._readiness = Readiness(self._known)
        limit, ready = memory_limit(settings.max_worker_memory), self._readiness.is_ready
        queue, device = settings.queue, settings.device
        facts = WorkerFacts(name, queue, device, limit, services, self.metrics, state.providers, ready)
        self._registry.register(WorkerCollector(facts))
        self._endpoints = self._serve()

    def begin(self, app: Celery, engine: Engine, threads: Iterable[Thread]) -> Periodic:
        """Take up the checks of /ready, once the worker takes batches. Return their thread, not yet started.

        /live fails if one of `threads` ends.
        """
        state, services = self._state, self._services
        checks = ready_checks(self._settings, app, engine, services, self.metrics, state.providers)
        self._readiness.begin(checks)
        checking = Periodic("readiness", CHECK_SECONDS, self._look, services)
        self._threads = [*threads, checking]
        return checking

    def close(self) -> None:
        """Free the address."""
        self._endpoints.close()

    def _serve(self) -> Endpoints:
        pages = {"/metrics": self._metrics_page, "/live": self._live, "/ready": self._readiness.answer}
        if path := os.environ.get(PROBES_VARIABLE):
            return serve_socket(Path(path), pages)
        return serve(self._settings.metrics_host, self._settings.metrics_port, pages)

    def _look(self) -> None:
        self._readiness.look()
        self._started = True

    def _known(self) -> dict[str, str]:
        services = (self._services.database, self._services.broker)
        known = {service.name: reason for service in services if (reason := down(service))}
        if reason := self._state.ending():
            known["process"] = reason
        elif not self._started:
            known["process"] = "starting"
        return known

    def _metrics_page(self) -> Answer:
        return Answer(generate_latest(self._registry))

    def _live(self) -> Answer:
        ended = [thread for thread in self._threads if thread.ident and not thread.is_alive()]
        stuck = [] if self._state.ending() else [f"thread {thread.name} ended" for thread in ended]
        watched_at = self._state.watched_at()
        if watched_at is not None and time.monotonic() - watched_at > silence_limit(self._settings.stall_seconds):
            stuck.append(f"the watchdog has not checked for {time.monotonic() - watched_at:.0f} s")
        return live_answer("; ".join(stuck))

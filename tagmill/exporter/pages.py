"""The pages of the exporter: /metrics, /live and /ready."""

import json
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from tagmill.db.connection import connect
from tagmill.exporter.cached import Cached
from tagmill.exporter.collector import QueueCollector
from tagmill.exporter.readings import broker_reader, read_ledger
from tagmill.http.endpoints import Answer, Pages
from tagmill.settings import Settings


class Exporter:
    """Answers from what it read a moment ago. Nothing is read unless it is asked.

    Without `about_itself` it leaves out the metrics of its process: node_exporter, whose textfile collector takes the
    others, has some of the same names.
    """

    def __init__(self, settings: Settings, *, about_itself: bool = True) -> None:
        engine = connect(settings.database_url)
        self._database = Cached("database", lambda: read_ledger(engine))
        read_broker = broker_reader(settings.broker_url)
        self._broker = None if read_broker is None else Cached("broker", read_broker)
        self._registry = CollectorRegistry()
        self._registry.register(QueueCollector(settings.queue, self._database, self._broker))
        if about_itself:
            ProcessCollector(registry=self._registry)

    @property
    def pages(self) -> Pages:
        """Path -> what makes its answer."""
        return {"/metrics": lambda: Answer(self.metrics()), "/live": _live, "/ready": self._ready}

    def metrics(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def down(self) -> list[str]:
        """Return the names of the services that could not be read, each with the reason."""
        return [f"{name} ({check['reason']})" for name, check in self._checks().items() if not check["ok"]]

    def _checks(self) -> dict[str, dict[str, bool | str | None]]:
        services = {"database": self._database, "broker": self._broker}
        checks: dict[str, dict[str, bool | str | None]] = {}
        for name, service in services.items():
            if service is not None:
                reason = None if service.get() is not None else service.reason
                checks[name] = {"ok": reason is None, "reason": reason}
        return checks

    def _ready(self) -> Answer:
        checks = self._checks()
        ready = all(check["ok"] for check in checks.values())
        body = json.dumps({"ready": ready, "checks": checks}, indent=2).encode() + b"\n"
        return Answer(body, "application/json", HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _live() -> Answer:
    return Answer(b"alive\n", "text/plain; charset=utf-8")

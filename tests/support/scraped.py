"""Read the metrics and probes of a worker or of the exporter, as Prometheus and Kubernetes do."""

import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tagmill.http.ask import ask

#: seconds within which an answer comes, however busy the machine is
SECONDS = 60
#: (name, labels) -> value
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(page: bytes) -> Samples:
    """Return every sample of a page /metrics."""
    families = text_string_to_metric_families(page.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


@dataclass(frozen=True)
class Scraped:
    """What listens on a port of this machine."""

    port: int

    def metrics(self) -> Samples:
        """Return (name, labels) -> value of every sample."""
        answer = ask(("127.0.0.1", self.port), "/metrics", SECONDS)
        assert answer.status == 200
        return samples(answer.body)

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; -1 if there is none."""
        return self.metrics().get((name, frozenset(labels.items())), -1.0)

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of all samples of a name."""
        return [dict(labels) for found, labels in self.metrics() if found == name]

    def status(self, page: str) -> int:
        """Return the HTTP status of a page; 0 if nobody answers."""
        try:
            return ask(("127.0.0.1", self.port), page, SECONDS).status
        except (OSError, HTTPException):
            return 0

    def reasons(self) -> dict[str, str]:
        """Return check -> reason of those checks of /ready that fail, all if nobody answers."""
        try:
            answer = ask(("127.0.0.1", self.port), "/ready", SECONDS)
        except (OSError, HTTPException):
            return {"port": "closed"}
        checks: dict[str, Any] = json.loads(answer.body)["checks"]
        reasons = {name: str(check["reason"]) for name, check in checks.items() if not check["ok"]}
        assert (answer.status == 200) == (not reasons)
        return reasons

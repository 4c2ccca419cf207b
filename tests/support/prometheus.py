"""A real Prometheus for the tests, with the rules of deploy/monitoring: it scrapes every second."""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from support.dashboards import MONITORING
from support.debian import find_program
from support.services import Server, free_port

RULES = MONITORING / "prometheus" / "rules"


class PrometheusServer(Server):
    """A Prometheus on a free port of 127.0.0.1 that scrapes each of the jobs at its addresses.

    With `hold`, the `for` of every alert is this: alerts fire and resolve within seconds.
    """

    def __init__(self, jobs: Mapping[str, Sequence[str]], hold: str | None = "2s", interval: str = "1s") -> None:
        self._program = find_program("prometheus")
        super().__init__()
        self.port = free_port()
        (self.folder / "rules").mkdir()
        for path in RULES.glob("*.yml"):
            text = path.read_text(encoding="utf-8")
            copied = re.sub(r"(?m)^(\s+for:) \S+$", rf"\1 {hold}", text) if hold else text
            (self.folder / "rules" / path.name).write_text(copied, encoding="utf-8")
        scraped = [{"job_name": job, "static_configs": [{"targets": list(at)}]} for job, at in jobs.items()]
        every = {"scrape_interval": interval, "evaluation_interval": interval}
        config = {"global": every, "rule_files": ["rules/*.yml"], "scrape_configs": scraped}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression now: labels in `metric`, time and value in `value`."""
        found: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Return the only value of an expression; None if there is none."""
        values = [float(series["value"][1]) for series in self.query(expression)]
        assert len(values) <= 1, expression
        return values[0] if values else None

    def over(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression over a time: labels in `metric`, times and values in `values`."""
        found: list[dict[str, Any]] = self.api("query_range", query=expression, start=start, end=end, step=step)[
            "result"
        ]
        return found

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the annotations of the alerts that fire, by name."""
        alerts = self.api("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["annotations"] for one in alerts if one["state"] == "firing"}

    def api(self, path: str, **values: object) -> dict[str, Any]:
        """Return the data of an answer. Raise AssertionError with Prometheus' own words if it refuses."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            body = json.load(error)
        assert body["status"] == "success", f"{values}: {body['error']}"
        return dict(body["data"])

    def wait_scraped(self, seconds: float = 60) -> None:
        """Return when every target was scraped once."""
        until = time.monotonic() + seconds
        while not all(target["health"] == "up" for target in self.api("targets")["activeTargets"]):
            assert time.monotonic() < until, self.api("targets")["activeTargets"]
            time.sleep(0.2)

    def wait_scraped_again(self) -> None:
        """Return when every target was scraped since now."""
        now = time.time()
        wanted = "count(timestamp(up)) == count(timestamp(up) >= {now})"
        while not self.query(wanted.format(now=now)):
            time.sleep(0.2)

    def _command(self) -> list[str]:
        options = {
            "config.file": self.folder / "prometheus.yml",
            "storage.tsdb.path": self.folder / "data",
            "web.listen-address": f"127.0.0.1:{self.port}",
        }
        return self._program.command(*(f"--{name}={value}" for name, value in options.items()))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

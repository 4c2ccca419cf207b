"""Workers, the exporter and a Prometheus that scrapes them: what an operator's dashboards read."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from support.dashboards import Query, queries
from support.debian import find_program
from support.installation import Site
from support.processes import TAGMILL, Worker
from support.prometheus import PrometheusServer
from support.services import free_port
from tagmill.exporter import cached
from tagmill.exporter.pages import Exporter
from tagmill.http.endpoints import serve
from tagmill.settings import Settings

#: panels without an answer while nothing waits or is wrong, and without node_exporter and `tagmill drift`
MAY_BE_EMPTY = {
    "fleet: Redis memory",  # of its limit, which a Redis of the tests does not have
    "fleet: Attempts that ended without a result",
    "fleet: Alerts",
    "fleet: Disks",
    "model: Groups that drifted",
    "model: Population stability index",
    "model: Distance of mean embeddings",
    "model: Images labeled unknown",
}


@dataclass
class WatchedFleet:
    """Two workers at fixed addresses, an exporter, perhaps a node_exporter, and a Prometheus."""

    site: Site
    folder: Path
    prometheus: PrometheusServer
    ports: list[int]
    workers: list[Worker] = field(default_factory=list)

    @property
    def textfile(self) -> Path:
        """The file of `tagmill drift` that node_exporter reads."""
        return self.folder / "textfile" / "tagmill.prom"

    def start_workers(self, count: int | None = None) -> None:
        """Start the workers, or the first `count` of them, at their addresses; return when they take batches."""
        ports = self.ports[:count]
        for number, port in enumerate(ports):
            env = self.site.env | {"TAGMILL_METRICS_PORT": str(port)}
            log = self.folder / f"worker-{number}-{len(self.workers)}.log"
            self.workers.append(Worker(env, log, name=f"cpu{number}"))
        for worker in self.workers[-len(ports) :]:
            worker.wait_ready()

    def kill_workers(self) -> None:
        """Kill all workers with their supervisors, as a power cut does."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill_tree()

    def answers(self, model: str) -> dict[Query, list[dict[str, object]]]:
        """Return what every query of Prometheus on every dashboard answers now. Raise AssertionError for an error."""
        name = model.partition("@")[0]
        values = {"queue": "tagmill", "name": name}
        return {query: self.prometheus.query(query.filled(values, seconds=15)) for query in queries("promql")}

    def empty(self, model: str) -> set[str]:
        """Return the panels, as DASHBOARD: TITLE, for which Prometheus has no answer at all."""
        answers = self.answers(model)
        filled = {(query.dashboard, query.panel) for query, found in answers.items() if found}
        return {
            f"{query.dashboard}: {query.panel}" for query in answers if (query.dashboard, query.panel) not in filled
        }

    def wait_filled(self, model: str, seconds: float) -> None:
        """Return when every panel that must have an answer has one."""
        until = time.monotonic() + seconds
        while empty := self.empty(model) - MAY_BE_EMPTY:
            assert time.monotonic() < until, f"panels without an answer: {empty}"
            time.sleep(0.5)


@contextmanager
def watched_fleet(site: Site, folder: Path, hold: str | None = None) -> Iterator[WatchedFleet]:
    """Start all of it, as in production; `hold` is the `for` of every alert, None leaves them as they are."""
    port, textfile = free_port(), folder / "textfile"
    textfile.mkdir()
    with ExitStack() as stack:
        stack.enter_context(Worker(site.env, folder / "node.log", node_exporter(port, textfile)))
        exporter = free_port()
        env = site.env | {"TAGMILL_METRICS_PORT": str(exporter)}
        stack.enter_context(Worker(env, folder / "exporter.log", [TAGMILL, "exporter"]))
        yield stack.enter_context(_watched(site, folder, exporter, hold, {"node": [port]}))


@contextmanager
def quickly_watched_fleet(site: Site, folder: Path) -> Iterator[WatchedFleet]:
    """Start all but node_exporter. The exporter runs here and reads SQL at each scrape, and no alert waits."""
    settings = Settings(database_url=site.env["TAGMILL_DATABASE_URL"], broker_url=site.env["TAGMILL_BROKER_URL"])
    with mock.patch.multiple(cached, LEAST_SECONDS=0.2, BUSY_SHARE=1.0):
        endpoints = serve("127.0.0.1", 0, Exporter(settings).pages)
        try:
            with _watched(site, folder, endpoints.port, "0s", {}) as fleet:
                yield fleet
        finally:
            endpoints.close()


@contextmanager
def _watched(
    site: Site, folder: Path, exporter: int, hold: str | None, more: dict[str, list[int]]
) -> Iterator[WatchedFleet]:
    ports = [free_port(), free_port()]
    at = {"tagmill-worker": ports, "tagmill-exporter": [exporter]} | more
    jobs = {job: [f"127.0.0.1:{port}" for port in found] for job, found in at.items()}
    with PrometheusServer(jobs, hold) as prometheus:
        fleet = WatchedFleet(site, folder, prometheus, ports)
        try:
            fleet.start_workers()
            prometheus.wait_scraped()
            yield fleet
        finally:
            fleet.kill_workers()


def node_exporter(port: int, folder: Path) -> list[str]:
    """Return the command of a node_exporter that sees disks, and the files of a folder."""
    only = ("--collector.disable-defaults", "--collector.filesystem", "--collector.textfile")
    at = (f"--web.listen-address=127.0.0.1:{port}", f"--collector.textfile.directory={folder}")
    return find_program("prometheus-node-exporter").command(*only, *at)

"""Watch a fleet with a real Prometheus: are the dashboards filled, does the alert for a killed fleet fire and resolve?

`PYTHONPATH=tests python -m benchmarks.worker.monitoring [--images 10000] [--hold 10s] [--out FOLDER]` tags drawn images
with the starter classifier, by two workers on the CPU, Redis and PostgreSQL. Prometheus (Debian's package) scrapes both
workers, the exporter and node_exporter every second, with the rules of deploy/monitoring. One image in 500 is broken.
Then it

1. compares two runs with `tagmill drift`, asks every query of every dashboard, those of SQL as a reader, and fails if
   one is refused, or if a panel is empty that must not be;
2. kills both workers with their supervisors, submits the images again, and waits until TagmillNoReadyWorker fires;
3. starts them again, and waits until the alert is gone and the run is done.

It prints images per second, the seconds of the slowest scrapes and of the slowest query, and how long the alert took.
In FOLDER it draws the graphs of the dashboards: fleet.png, model.png and run.png. --hold is the `for` of all alerts:
without it each has its own, and the program takes about 6 minutes longer.
"""

import argparse
import json
import re
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from chaos.catalog import Catalog, draw_catalog
from sqlalchemy import text
from support.dashboards import queries
from support.installation import Site, new_site
from support.processes import tagmill, wait_until
from support.services import PostgresServer, RedisServer, create_database
from support.watched import MAY_BE_EMPTY, WatchedFleet, watched_fleet

from benchmarks.support.machine import machine, tell
from benchmarks.support.panels import Graph, draw
from tagmill.bundles.starter import starter_bundles
from tagmill.db.connection import connect
from tagmill.db.roles import Kind, grant_role

ALERT = "TagmillNoReadyWorker"
#: seconds between two points of a graph, and seconds that it goes on after the last run
STEP, TAIL = 2.0, 30.0
#: panels that this program fills, besides those that are always filled
FILLED_HERE = {"fleet: Disks", "model: Groups that drifted", "model: Population stability index"}


@dataclass(frozen=True)
class Times:
    """When what happened, in Unix seconds."""

    started: float
    killed: float
    fired: float
    back: float
    resolved: float


def main() -> None:
    """Run it and print the figures."""
    options = _options()
    out = options.out or Path(tempfile.mkdtemp(prefix="tagmill-monitoring-"))
    out.mkdir(parents=True, exist_ok=True)
    tell(machine())
    with ExitStack() as stack:
        broker, server = stack.enter_context(RedisServer()), stack.enter_context(PostgresServer())
        # The leases of production; batches that nobody published are not part of this.
        site = new_site(out, create_database(server.url), broker.url, lease_seconds=30, reap_seconds=10)
        tagmill("model", "add", starter_bundles()[0], "--name", "clothing", env=site.env)
        fleet = stack.enter_context(watched_fleet(site, out, options.hold))
        catalog = draw_catalog(out / "shop", options.images, seed=1)
        for path in catalog.images[::500]:
            path.write_bytes(path.read_bytes()[:200])
        print(json.dumps(_watch(fleet, site, out, catalog), indent=1))


def _watch(fleet: WatchedFleet, site: Site, out: Path, catalog: Catalog) -> dict[str, object]:
    started = time.time()
    run = _tag(site, catalog)
    rate = len(catalog.images) / (time.time() - started)
    reference = _tag(site, catalog)
    tagmill("drift", run, "--reference", reference, "--prometheus", fleet.textfile, env=site.env)
    time.sleep(5)
    slowest = _slowest(fleet)
    missing = fleet.empty("clothing@1") - (MAY_BE_EMPTY - FILLED_HERE)
    lines = _lines_of_sql(site, run)
    times = _kill(fleet, site, catalog, started)
    graphs = _graphs(fleet, started) | {"run": _shifted(lines, started)}
    for dashboard, found in graphs.items():
        draw(found, _spans(times), out / f"{dashboard}.png")
        tell(f"{out}/{dashboard}.png")
    assert not missing, f"panels without an answer: {missing}"
    longest = "max(max_over_time(scrape_duration_seconds{{job='tagmill-{}'}}[1h]))"
    return {
        "images": len(catalog.images),
        "images_per_second": round(rate, 1),
        "queries": len([*queries("promql"), *queries("sql")]),
        "slowest_query_seconds": round(slowest, 4),
        "slowest_scrape_seconds": {job: fleet.prometheus.value(longest.format(job)) for job in ("worker", "exporter")},
        "fired_after_seconds": round(times.fired - times.killed, 1),
        "resolved_after_seconds": round(times.resolved - times.back, 1),
    }


def _tag(site: Site, catalog: Catalog) -> object:
    run = site.submit(catalog.manifest, "--model", "clothing")["run"]
    site.wait_done(run, 3600)
    return run


def _kill(fleet: WatchedFleet, site: Site, catalog: Catalog, started: float) -> Times:
    """Kill the fleet while a run waits, until the alert has fired; start it again, until it has resolved."""
    fleet.kill_workers()
    killed = time.time()
    run = site.submit(catalog.manifest, "--model", "clothing")["run"]
    wait_until(lambda: ALERT in fleet.prometheus.firing(), 900, f"{ALERT} to fire")
    fired = time.time()
    tell(fleet.prometheus.firing()[ALERT]["summary"])
    fleet.start_workers()
    back = time.time()
    wait_until(lambda: ALERT not in fleet.prometheus.firing(), 120, f"{ALERT} to resolve")
    resolved = time.time()
    site.wait_done(run, 3600)
    time.sleep(TAIL)
    return Times(started, killed, fired, back, resolved)


def _slowest(fleet: WatchedFleet) -> float:
    """Return the seconds of the slowest query of Prometheus."""
    seconds = []
    for query in queries("promql"):
        began = time.perf_counter()
        fleet.prometheus.query(query.filled({"queue": "tagmill", "name": "clothing"}, seconds=15))
        seconds.append(time.perf_counter() - began)
    return max(seconds)


def _graphs(fleet: WatchedFleet, start: float) -> dict[str, list[Graph]]:
    """Return the panels with time series of Prometheus that are not empty, by dashboard."""
    found: dict[str, dict[str, Graph]] = {}
    for query in queries("promql"):
        if query.kind != "timeseries":
            continue
        expression = query.filled({"queue": "tagmill", "name": "clothing"}, seconds=5)
        series = fleet.prometheus.over(expression, start, time.time(), STEP)
        lines = [(_name(query.legend, one["metric"]), *_points(one["values"], start)) for one in series]
        if lines:
            of_board = found.setdefault(query.dashboard, {})
            before = of_board[query.panel].lines if query.panel in of_board else ()
            of_board[query.panel] = Graph(query.panel, query.unit, [*before, *lines])
    return {dashboard: list(graphs.values()) for dashboard, graphs in found.items()}


def _lines_of_sql(site: Site, run: object) -> list[Graph]:
    """Return the time series of the dashboards of SQL, read as a reader; times are Unix seconds."""
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    graphs = []
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE dashboards")
        grant_role(connection, Kind.READER, "dashboards")
        connection.execute(text("SET LOCAL ROLE dashboards"))
        for query in queries("sql"):
            filled = query.filled({"run": str(run), "name": "clothing"}, seconds=int(STEP))
            answer = connection.exec_driver_sql(filled.replace("%", "%%"))
            names, rows = list(answer.keys())[1:], [tuple(row) for row in answer]
            if query.kind == "timeseries":
                values = np.array([[float(value or 0) for value in row] for row in rows])
                lines = [(name, values[:, 0], values[:, place + 1]) for place, name in enumerate(names)]
                graphs.append(Graph(query.panel, query.unit, lines))
    engine.dispose()
    return graphs


def _shifted(graphs: list[Graph], start: float) -> list[Graph]:
    moved = [[(name, times - start, values) for name, times, values in graph.lines] for graph in graphs]
    return [Graph(graph.title, graph.unit, lines) for graph, lines in zip(graphs, moved, strict=True)]


def _spans(times: Times) -> list[tuple[float, float, str]]:
    killed, fired, back = (moment - times.started for moment in (times.killed, times.fired, times.back))
    return [(killed, fired, "workers killed"), (fired, back, "alert fires")]


def _name(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return re.sub(r" ?{{\w+}}", "", legend)  # a label that is empty is none


def _points(values: list[list[Any]], start: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times and values, with a gap where there were no points."""
    points = np.array([[float(moment) - start, float(value)] for moment, value in values])
    gaps = np.flatnonzero(np.diff(points[:, 0]) > 1.5 * STEP) + 1
    with_gaps = np.insert(points, gaps, np.full((len(gaps), 2), np.nan), axis=0)
    return with_gaps[:, 0], with_gaps[:, 1]


def _options() -> argparse.Namespace:
    about = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker.monitoring", description=about)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--hold", help="the `for` of all alerts, such as 10s; without it each has its own")
    parser.add_argument("--out", type=Path, help="folder for the graphs; by default a new one in /tmp")
    return parser.parse_args()


if __name__ == "__main__":
    main()

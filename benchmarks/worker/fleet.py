"""Measure what many workers ask of one PostgreSQL and one Redis, without pictures.

`PYTHONPATH=tests python -m benchmarks.worker.fleet --workers 32 [--rerun] [--json FILE]` registers one model, submits
images through the producer, and lets N workers take them. For each batch a worker receives its message, claims the
batch, looks for unchanged files and known results, completes the batch with five labels per image, and acknowledges the
message. The heartbeat of each worker renews its leases, and its reaper looks for lost work. With --rerun a second run
has the same images, so that all results are known, as in a catalog that is tagged every night.

Real are the calls to the ledger and the connections for them, the producer, the messages, Celery's consumer with the
project's channel and settings (late acknowledgment, as many messages as batches in work), the heartbeats and the
reapers. Missing are images and models, Celery's loop with its events for Flower, and the supervisors. The threads of a
worker take turns in receiving; in a real worker Celery's loop hands the messages to them. By default each worker has
its own process, forked from one that has loaded everything. Workers that share a process (--processes) share Python's
lock, and their latencies include waiting for it.

It is a closed loop: each worker has --concurrency batches in work at any time. With --think-ms a batch waits before it
is completed, as for a GPU: at random, up to twice as long. All messages wait in Redis when the workers start. The
measured time begins when twice as many batches are finished as are in work, and ends when only as many are left.
Medians and 99th percentiles are of all batches of that time. CPU time is that of all processes of a server, and of all
workers.

Without --think-ms the batches in work wait for each other: all phases of a batch together take the number of batches
in work divided by the batches per second, however fast SQL is. Read images/s without --think-ms and latencies with it.

The servers are started for the benchmark. PostgreSQL does not wait for the disk. Each round has a new database. With
--profile, PostgreSQL also counts the time of each statement, and the benchmark prints what its connections wait for.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg
import sqlalchemy
from support.services import RedisServer, libpq_url

from benchmarks.support.fleet.crew import Crew
from benchmarks.support.fleet.load import Load, Servers
from benchmarks.support.fleet.measured import (
    POSTGRESQL,
    RAMP_UP,
    REDIS,
    WORKERS,
    Measured,
    summary,
    table,
    to_json,
    waits_table,
)
from benchmarks.support.fleet.postgres import (
    FleetPostgres,
    count_statements,
    database_bytes,
    deadlocks,
    statements_table,
)
from benchmarks.support.fleet.sampling import Sampler
from benchmarks.support.fleet.site import Site
from benchmarks.support.fleet.synthetic import LABELS
from benchmarks.support.machine import CORES, tell
from tagmill.machine import cpu_name

#: connections of a worker besides one per batch in work: of its heartbeat and of its reaper
OTHER_CONNECTIONS = 3
#: connections of the benchmark and of the server itself
SPARE_CONNECTIONS = 20


def measure(site: Site, *, profile: bool = False) -> Measured:
    """Submit the images, let the workers take them, and return the numbers. Raise RuntimeError if they fail."""
    load, url = site.load, libpq_url(site.place.database_url)
    before, size = deadlocks(url), database_bytes(url)
    ids = site.submit()
    if profile:
        count_statements(url)
    with Crew(site.place, load) as crew, Sampler(url, {**site.servers.processes, WORKERS: crew.pids}) as sampler:
        report = crew.run(site.batches)
    if (tagged := site.tagged(ids)) != load.images:
        raise RuntimeError(f"{tagged} of {load.images} images were tagged")
    if profile:
        print(f"\n{statements_table(url, load.images)}\n\n{waits_table(sampler.samples)}\n", flush=True)
    return summary(report, sampler.samples, load, deadlocks(url) - before, (database_bytes(url) - size) / load.images)


@contextmanager
def open_servers(options: argparse.Namespace) -> Iterator[Servers]:
    """Start the servers that are not given by a URL."""
    with ExitStack() as stack:
        processes: dict[str, list[int]] = {}
        database, broker = options.database, options.broker
        if database is None:
            connections = options.workers * (options.concurrency + OTHER_CONNECTIONS) + SPARE_CONNECTIONS
            given = [f"max_connections={connections}", *options.postgres]
            given += ["shared_preload_libraries=pg_stat_statements"] if options.profile else []
            postgres = stack.enter_context(FleetPostgres(given))
            database, processes[POSTGRESQL] = postgres.url, [postgres.pid]
        if broker is None:
            redis = stack.enter_context(RedisServer())
            broker, processes[REDIS] = redis.url, [redis.pid]
        yield Servers(database, broker, processes)


def main() -> None:
    """Measure, and print a table."""
    options = _options()
    load = Load(
        options.workers,
        min(options.processes or options.workers, options.workers),
        options.concurrency,
        options.images,
        options.batch_size,
        options.runs,
        options.masks,
        options.think_ms,
    )
    names = ("first run", "all results known") if options.rerun else ("first run",)
    columns: dict[str, list[Measured]] = {name: [] for name in names}
    with open_servers(options) as servers:
        print(f"{_machine(servers)}; {LABELS} labels an image; {asdict(load)}", flush=True)
        for number in range(options.rounds):
            site = Site(servers, f"fleet-{os.getpid()}-{number}", load)
            try:
                for name, rounds in columns.items():
                    rounds.append(measure(site, profile=options.profile))
                    tell(f"round {number + 1}, {name}: {rounds[-1].images_per_second:,.0f} images/s")
            finally:
                site.close()
    print(table(columns))
    if options.json:
        first, *again = [to_json(rounds) for rounds in columns.values()]
        found = first | {"load": asdict(load)} | ({"rerun": again[0]} if again else {})
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--processes", type=int, default=0, help="processes that the workers share; 0: one each")
    parser.add_argument("--concurrency", type=int, default=3, help="batches that one worker has in work")
    parser.add_argument("--images", type=int, default=128_000, help="images of a round")
    parser.add_argument("--batch-size", type=int, default=64, help="images per message")
    parser.add_argument("--runs", type=int, default=1, help="runs that the images are split into")
    parser.add_argument("--masks", type=int, default=0, help="masks per image")
    parser.add_argument("--think-ms", type=float, default=0.0, help="mean wait of a batch, as for a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rerun", action="store_true", help="measure a second run of the same images")
    parser.add_argument("--database", metavar="URL", help="a database of a PostgreSQL that runs already")
    parser.add_argument("--broker", metavar="URL", help="a Redis that runs already")
    parser.add_argument("--postgres", metavar="NAME=VALUE", action="append", default=[], help="option of PostgreSQL")
    parser.add_argument("--profile", action="store_true", help="also print statements and waits of PostgreSQL")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    least = (RAMP_UP + 2) * options.workers * options.concurrency * options.batch_size
    if options.images < least:
        parser.error(f"--images: {options.workers} workers need at least {least}")
    return options


def _machine(servers: Servers) -> str:
    with psycopg.connect(libpq_url(servers.database)) as connection:
        version = connection.execute("SHOW server_version").fetchall()[0][0]
    return (
        f"{cpu_name()}, {CORES} cores; Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, "
        f"psycopg {psycopg.__version__}, PostgreSQL {version}"
    )


if __name__ == "__main__":
    main()

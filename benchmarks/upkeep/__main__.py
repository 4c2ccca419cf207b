"""Measure commands of every day on a database with millions of results and 10,000 runs, and a prune beside a worker.

`PYTHONPATH=tests python -m benchmarks.upkeep [--images 1000000] [--sqlite 100000] [--times 3] [--json FILE]` starts its
own PostgreSQL and fills it (see `benchmarks.upkeep.fill`): two runs over a catalog, two versions of a model with a
result of each image, 10,000 small runs, and a queue as long as the catalog. Then it

1. runs the commands that only read, as processes, and reads 50 times what a scrape of the exporter reads;
2. prunes what is older than 90 days, while one thread claims and completes batches of 64 images, half of them known,
   and the exporter's reading goes on. It compares how long the thread waits with ten seconds before;
3. vacuums;
4. copies a smaller database, with 1,000 small runs, to SQLite, and prunes that.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, text
from support.services import PostgresServer, create_database

from benchmarks.producer.scale import Ran
from benchmarks.support.machine import machine, tell
from benchmarks.upkeep.commands import Scrapes, reading_commands, scrapes
from benchmarks.upkeep.fill import SMALL_RUNS, copy, fill
from benchmarks.upkeep.pruned import Pruned, measure_prune
from benchmarks.upkeep.writer import Writer
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade

#: readings of the exporter, and seconds in which the worker is alone
SCRAPES, ALONE = 50, 10.0
#: small runs on SQLite
FEW_RUNS = 1_000
_SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200"


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upkeep", description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000, help="that two versions have a result of")
    parser.add_argument(
        "--sqlite", type=int, default=100_000, metavar="IMAGES", help="the same on SQLite; 0: not at all"
    )
    parser.add_argument("--times", type=int, default=3, help="how often short commands are run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    began = time.monotonic()
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        print(f"{machine()}, SQLAlchemy {sqlalchemy.__version__}, PostgreSQL {server.version}\n", flush=True)
        found: dict[str, Any] = {"postgresql": _postgresql(create_database(server.url), options, Path(folder))}
        if options.sqlite:
            found["sqlite"] = _sqlite(create_database(server.url), options.sqlite, Path(folder))
    tell(f"{time.monotonic() - began:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def _postgresql(url: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    engine = connect(url)
    upgrade(engine)
    tell("filling PostgreSQL")
    filled = fill(engine, options.images * 2 // 3)
    tell("commands that read")
    commands = reading_commands(url, filled, folder, options.times)
    asked = scrapes(engine, SCRAPES)
    print(
        f"{filled.images:,} images, {2 * filled.images:,} results, {SMALL_RUNS + 3:,} runs, {filled.keys:,} keys wait\n"
    )
    _print(("command", "s, median [least-most]", "peak memory, MB"), _of_commands(commands))
    tell("a worker alone, then beside a prune")
    alone, beside = Writer(url, filled), Writer(url, filled)
    alone.start()
    time.sleep(ALONE)
    alone.stop()
    size, readings = _size(engine), []
    beside.start()
    pruned = measure_prune(url, lambda: readings.append(scrapes(engine, 1)))
    beside.stop()
    left, began = _size(engine), time.perf_counter()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))
    vacuum = time.perf_counter() - began
    _print(("the exporter reads SQL", "ms, median", "95 % below", "longest", "blocks"), _of_scrapes(asked, readings))
    _print(("a worker's call", "n", "ms, median", "99 % below", "longest"), _of_writers(alone, beside))
    _print(PRUNE, [_of_prune("PostgreSQL", pruned)])
    sizes = f"{size} MB before, {left} MB after the prune, {_size(engine)} MB after VACUUM ({vacuum:.1f} s)"
    print(f"tables and indexes: {sizes}")
    print(f"{beside.refused} of {len(beside.seconds['complete'])} batches relied on what was pruned meanwhile\n")
    engine.dispose()
    return {
        "commands": {name: [vars(one) for one in taken] for name, taken in commands.items()},
        "prune": vars(pruned),
        "writer alone": alone.seconds,
        "writer beside a prune": beside.seconds,
    }


def _sqlite(source_url: str, images: int, folder: Path) -> dict[str, Any]:
    source, url = connect(source_url), f"sqlite:///{folder}/tags.db"
    target = connect(url)
    upgrade(source)
    upgrade(target)
    tell("filling SQLite")
    filled = fill(source, images * 2 // 3, FEW_RUNS)
    copy(source, target)
    target.dispose()
    tell("a worker alone, then beside a prune")
    alone, beside = Writer(url, filled), Writer(url, filled)
    alone.start()
    time.sleep(ALONE)
    alone.stop()
    beside.start()
    pruned = measure_prune(url)
    beside.stop()
    _print(("a worker's call", "n", "ms, median", "99 % below", "longest"), _of_writers(alone, beside))
    _print(PRUNE, [_of_prune("SQLite", pruned)])
    return {"prune": vars(pruned), "writer alone": alone.seconds, "writer beside a prune": beside.seconds}


PRUNE = (
    "prune", "runs", "entries", "images", "s", "images/s", "peak memory, MB", "longest statement, ms",
    "longest transaction, ms", "transactions",
)  # fmt: skip


def _size(engine: Engine) -> int:
    with engine.connect() as connection:
        return round(int(connection.execute(text(_SIZE)).scalar_one()) / 1e6)


def _of_commands(commands: dict[str, list[Ran]]) -> Iterator[tuple[object, ...]]:
    for name, taken in commands.items():
        seconds = [one.seconds for one in taken]
        spread = f" [{min(seconds):.2f}-{max(seconds):.2f}]" if len(seconds) > 1 else ""
        yield (
            f"`tagmill {name}`",
            f"{statistics.median(seconds):.2f}{spread}",
            round(max(one.megabytes for one in taken)),
        )


def _of_scrapes(asked: Scrapes, beside: list[Scrapes]) -> Iterator[tuple[object, ...]]:
    found = sorted(one.median for one in beside)
    yield "alone", *_ms(asked.median, asked.p95, asked.longest), round(asked.blocks)
    yield (
        "beside a prune and a worker",
        *_ms(statistics.median(found), found[int(0.95 * (len(found) - 1))], found[-1]),
        "",
    )


def _of_writers(alone: Writer, beside: Writer) -> Iterator[tuple[object, ...]]:
    for call in alone.seconds:
        for name, writer in (("alone", alone), ("beside a prune", beside)):
            found = sorted(writer.seconds[call])
            middle, most = statistics.median(found), found[int(0.99 * (len(found) - 1))]
            yield f"{call}, {name}", len(found), *_ms(middle, most, found[-1])


def _of_prune(database: str, found: Pruned) -> tuple[object, ...]:
    deleted = (f"{found.counts[name]:,}" for name in ("runs", "entries", "images"))
    tell(f"{found.stages}\nlongest: {found.longest}")
    speed = f"{found.counts['images'] / found.seconds:,.0f}"
    longest = _ms(found.longest_statement, found.longest_transaction)
    return (
        database,
        *deleted,
        f"{found.seconds:.1f}",
        speed,
        round(found.megabytes),
        *longest,
        f"{found.transactions:,}",
    )


def _ms(*seconds: float) -> Iterator[str]:
    return (f"{1000 * found:,.1f}" for found in seconds)


def _print(names: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)


if __name__ == "__main__":
    main()

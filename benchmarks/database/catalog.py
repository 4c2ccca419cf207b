"""Measure what people ask of the catalog views, and the status commands, once a catalog was tagged night after night.

`PYTHONPATH=tests python -m benchmarks.database.catalog --keys 1000000 --runs 7 [--images 10000000] [--json FILE]`
starts its own PostgreSQL. All keys are tagged by each run. From one run to the next 2 % of them get other bytes, and
1 % of each run fail. The rows are filled in by SQL as `tagmill.ledger` writes them, with the statement that it updates
`catalog_entry` by. The tables are vacuumed after each run, as autovacuum does. Then psycopg asks each question and
fetches all rows.

With `--images`, the database also gets that number of runs of so many images, done and in batches of 64, and `tagmill
run list` and `tagmill run status` are timed as whole commands. Most of that is the start of Python.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from sqlalchemy import Engine, text
from support.filled import add_counts, add_tagged_run
from support.processes import environment, tagmill
from support.services import PostgresServer, create_database, libpq_url

from benchmarks.support.machine import tell
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

#: of so many images one has other bytes in the next run
CHANGED = 50
#: keys of the last run, which is a small one
SMALL_RUN = 10_000
BATCH = 64

README = "SELECT image_key, label, score FROM catalog_labels WHERE model = 'clothing' AND rank = 1 AND score >= 0.8"
QUESTIONS = {
    "README's query, first 1,000 rows": f"{README} LIMIT 1000",
    "README's query, all rows": README,
    "one key": "SELECT * FROM catalog_labels WHERE image_key = '{key}'",
    "one label, first 50": "SELECT * FROM catalog_labels WHERE label = 'label_name 7' AND score >= 0.8 LIMIT 50",
    "label and score": "SELECT image_key, score FROM catalog_labels WHERE label = 'label_name 7' AND score >= 0.8",
    "changed since": "SELECT * FROM catalog_changes WHERE changed_at >= {since}",
    "labels of what changed": (
        "SELECT image_key, label, score FROM catalog_labels JOIN catalog_changes USING (image_key, model) "
        "WHERE changed_at >= {since}"
    ),
    "a run of 10,000 keys": "SELECT image_key, label, score FROM catalog_labels WHERE run_id = {run}",
}


@dataclass(frozen=True)
class Measured:
    """The times of one question or command, in milliseconds."""

    name: str
    rows: int
    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Filled:
    """What the questions name."""

    key: str
    #: when the last of the runs over all keys began
    since: int
    #: the small run after it
    run: int


def fill(engine: Engine, model: Model, keys: int, runs: int) -> Filled:
    """Tag all keys `runs` times, and the first of them once more."""
    # Each statement is a transaction: VACUUM needs that.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for number in range(runs + 1):
            began = time.perf_counter()
            images = keys if number < runs else min(SMALL_RUN, keys)
            if number < runs:
                since = connection.execute(text("SELECT ceil(extract(epoch FROM now()))::bigint")).scalar_one()
            run = add_tagged_run(connection, model, images, BATCH, changed=1 if number == 0 else CHANGED, masks=0)
            connection.execute(text("VACUUM ANALYZE"))
            tell(f"run {number + 1}: {images:,} images in {time.perf_counter() - began:.0f} s")
    return Filled(f"sku-{keys // 2 + 1:09d}", since, run.id)


def ask(url: str, filled: Filled, times: int) -> list[Measured]:
    """Ask each question `times` times."""
    measured = []
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        for name, question in QUESTIONS.items():
            statement = question.format(**vars(filled)).encode()

            def rows(statement: bytes = statement) -> int:
                return len(connection.execute(statement).fetchall())

            measured.append(timed(name, rows, times, rows()))
    return measured


def commands(url: str, engine: Engine, model: Model, images: int, runs: int, times: int) -> list[Measured]:
    """Time `tagmill run list` and `tagmill run status` beside `runs` runs of so many images."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        ids = [add_counts(connection, model, images, BATCH) for _ in range(runs)]
        connection.execute(text("VACUUM ANALYZE batch"))
    tell(f"{runs} runs of {images:,} images added")
    env, batches = environment(database_url=url), images // BATCH
    return [
        timed("tagmill --version", lambda: tagmill("--version", env=env), times, 0),
        timed("tagmill run status", lambda: tagmill("run", "status", ids[-1], env=env), times, batches),
        timed("tagmill run list", lambda: tagmill("run", "list", env=env), times, runs * batches),
    ]


def timed(name: str, call: Callable[[], object], times: int, rows: int) -> Measured:
    """Return the times of a call in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return Measured(name, rows, statistics.median(taken), min(taken), max(taken))


def line(found: Measured) -> str:
    """Return one line of the table."""
    return f"| {found.name} | {found.rows:,} | {found.median:,.1f} [{found.least:,.1f}-{found.most:,.1f}] |"


def measure(url: str, keys: int, runs: int, images: int, times: int) -> list[Measured]:
    """Fill a database and measure it."""
    engine = connect(url)
    upgrade(engine)
    model = register(engine, BundleSpec("clothing", CLASSIFY, ("a",), PreprocessSpec(8, 8)), "f" * 64)
    measured = ask(url, fill(engine, model, keys, runs), times) if keys else []
    if images:
        measured += commands(url, engine, model, images, runs, times)
    engine.dispose()
    return measured


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys of the catalog; 0: only the commands")
    parser.add_argument("--runs", type=int, default=7, help="runs over all keys")
    parser.add_argument("--images", type=int, default=0, help="images of each of the runs that the commands count")
    parser.add_argument("--times", type=int, default=7, help="how often each question is asked")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    with PostgresServer() as server:
        print(
            f"Python {platform.python_version()}, psycopg {psycopg.__version__}, PostgreSQL {server.version}; "
            f"{options.keys:,} keys tagged by {options.runs} runs, n = {options.times}: median [range]"
        )
        measured = measure(create_database(server.url), options.keys, options.runs, options.images, options.times)
    print("| question | rows | ms |\n|---|---|---|")
    for found in measured:
        print(line(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(found) for found in measured], indent=2) + "\n")


if __name__ == "__main__":
    main()

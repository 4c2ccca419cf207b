"""Measure `tagmill results` and `tagmill run retry` of large runs: rows/s, and the peak of their memory.

`PYTHONPATH=tests python -m benchmarks.producer.results --tagged 200000 --failed 100000 1000000` fills a PostgreSQL that
it starts and a SQLite file, and runs the commands as a user does, one at a time. A tagged image has five labels, one of
ten has six, and one of a hundred failed. With `--masks N` each has N masks. The time is that of the whole command, with
its start.
"""

import argparse
import os
import platform
import re
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import psycopg
import sqlalchemy
from sqlalchemy import Connection, Engine, insert, select, text
from support.filled import FilledRun, add_run, add_tagged_run
from support.processes import TAGMILL, environment
from support.services import PostgresServer, RedisServer, create_database

from benchmarks.support.machine import tell
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.bulk import insert_rows
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import metadata
from tagmill.images.preprocess import PreprocessSpec
from tagmill.machine import cpu_name, usable_cores
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

BATCH_SIZE = 64
#: rows that are copied to SQLite by one statement
CHUNK = 5000

_FAILURES = """
INSERT INTO image_failure (run_id, position, batch_id, error_code, error_detail)
SELECT run_id, position, :first_batch + position / :size, 'fetch_failed', 'connection refused'
FROM entry WHERE run_id = :run
"""
_COUNTS = """
INSERT INTO batch_failure (run_id, batch_id, error_code, images)
SELECT run_id, id, 'fetch_failed', images FROM batch WHERE run_id = :run
"""
_DONE = "UPDATE batch SET status = 'done', attempts = 1, published_at = 1, finished_at = 2 WHERE run_id = :run"


def add_failed_run(connection: Connection, model: Model, images: int) -> FilledRun:
    """Add a run all of whose images failed."""
    found = add_run(connection, model, images, BATCH_SIZE)
    values = {"run": found.id, "first_batch": found.first_batch, "size": BATCH_SIZE}
    for statement in (_FAILURES, _COUNTS, _DONE):
        connection.execute(text(statement), {name: value for name, value in values.items() if f":{name}" in statement})
    return found


def copy_tables(source: Engine, target: Engine) -> None:
    """Copy all rows of one database into another, empty one."""
    with source.connect().execution_options(yield_per=CHUNK) as reader, target.begin() as writer:
        for table in metadata.sorted_tables:
            rows = (tuple(row) for row in reader.execute(select(table)))
            while chunk := list(islice(rows, CHUNK)):
                if table.name in {"model", "run"}:  # they have columns of JSON
                    names = table.columns.keys()
                    writer.execute(insert(table), [dict(zip(names, row, strict=True)) for row in chunk])
                else:
                    insert_rows(writer, table, table.columns.keys(), chunk)


def measure(env: dict[str, str], *words: object) -> tuple[float, float, int]:
    """Run a command; return its seconds, its CPU seconds and the most memory that it held, in MiB."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen([TAGMILL, *map(str, words)], env=env, stdout=subprocess.DEVNULL)
    # The peak in `usage` counts this process, too, which the new one is a copy of for a moment.
    while not (found := os.wait4(process.pid, os.WNOHANG))[0]:
        if status := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()):
            peak = int(status[1]) // 1024
        time.sleep(0.05)
    _, code, usage = found
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0, words
    return seconds, usage.ru_utime + usage.ru_stime, peak


def table(urls: dict[str, str], broker: str, tagged: int, runs: dict[int, int], folder: Path) -> Iterator[str]:
    """Measure each command on each database, and yield the lines of a table."""
    yield "| command | database | images | seconds | rows/s | CPU s | peak memory, MiB |"
    yield "|---|---|---|---|---|---|---|"
    for name, url in urls.items():
        env = environment(database_url=url, broker_url=broker)
        for form in ("csv", "jsonl", "parquet"):
            seconds, cpu, memory = measure(env, "results", 1, "--format", form, "-o", folder / f"tags.{form}")
            rate = f"{tagged / seconds:,.0f}"
            yield f"| results --format {form} | {name} | {tagged:,} | {seconds:.1f} | {rate} | {cpu:.1f} | {memory} |"
        for run, images in runs.items():
            seconds, cpu, memory = measure(env, "run", "retry", run)
            rate = f"{images / seconds:,.0f}"
            yield f"| run retry | {name} | {images:,} | {seconds:.1f} | {rate} | {cpu:.1f} | {memory} |"


def fill(engine: Engine, tagged: int, failed: Sequence[int], masks: int) -> dict[int, int]:
    """Fill a PostgreSQL; return run -> images of the runs that failed. The tagged run is run 1."""
    upgrade(engine)
    model = register(engine, BundleSpec("bench", CLASSIFY, ("a",), PreprocessSpec(8, 8)), "f" * 64)
    with engine.begin() as connection:
        add_tagged_run(connection, model, tagged, BATCH_SIZE, masks=masks)
        runs = {add_failed_run(connection, model, images).id: images for images in failed}
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    return runs


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tagged", type=int, default=200_000, help="images of the run whose results are written")
    parser.add_argument(
        "--failed", type=int, nargs="*", default=[100_000, 1_000_000], help="images of each retried run"
    )
    parser.add_argument("--masks", type=int, default=0, help="masks of an image")
    options = parser.parse_args()
    with PostgresServer() as server, RedisServer() as broker, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        urls = {"PostgreSQL": create_database(server.url), "SQLite": f"sqlite:///{folder}/bench.db"}
        tell("filling the databases")
        source, target = (connect(url) for url in urls.values())
        runs = fill(source, options.tagged, options.failed, options.masks)
        upgrade(target)
        copy_tables(source, target)
        source.dispose()
        target.dispose()
        print(
            f"{cpu_name()}, {usable_cores()} cores; Python {platform.python_version()}, SQLAlchemy "
            f"{sqlalchemy.__version__}, psycopg {psycopg.__version__}, PostgreSQL {server.version}, SQLite "
            f"{sqlite3.sqlite_version}; {options.masks} masks an image; n = 1"
        )
        for line in table(urls, broker.url, options.tagged, runs, folder):
            print(line, flush=True)


if __name__ == "__main__":
    main()

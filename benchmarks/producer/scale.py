"""Measure submit, claims, status and results as a run grows, on SQLite and PostgreSQL with Redis.

`PYTHONPATH=tests python -m benchmarks.producer.scale --images 10000 100000 [--database postgresql] [--json FILE]`
prints a line for each size and database. Each line uses a new database. `tagmill submit` reads a CSV manifest.

`tagmill.ledger.batches.leases` and `tagmill.ledger.complete` stand for the workers. They claim and complete batches of
64 images one after the other, with five labels and two masks of about 416 characters per image. Claims are timed on the
last batches, when the tables are full. Memory is the peak resident size of the command. SQL bytes are those of tables,
indexes and rows that PostgreSQL has not vacuumed yet.
"""

import argparse
import json
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import redis
import sqlalchemy
from sqlalchemy import Engine, select, text
from support.processes import TAGMILL, environment
from support.services import PostgresServer, RedisServer, create_database, drop_database

from benchmarks.database.sql import IMAGES, LABELS, MASKS, result_of
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import batch
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.models import register
from tagmill.tasks.classify import CLASSIFY

QUEUE = "tagmill"
MODEL = "f" * 64
#: timed claims and status queries; timed commands
CALLS, COMMANDS = 60, 5

_SQLITE_BYTES = "SELECT coalesce(sum(pgsize), 0) FROM dbstat"
_SQLITE_MASKS = f"{_SQLITE_BYTES} WHERE name IN ('result_mask', 'ix_result_mask_image_id')"
_POSTGRESQL_BYTES = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class WHERE relkind = 'r'"
_POSTGRESQL_MASKS = f"{_POSTGRESQL_BYTES} AND relname = 'result_mask'"


@dataclass(frozen=True)
class Measured:
    """The results of one size on one database."""

    database: str
    images: int
    #: images/s of `tagmill submit`, and its peak memory
    submit_rate: float
    submit_megabytes: float
    redis_bytes: float
    #: images/s of one writer that claims and completes batches, in the first and in the last tenth
    write_rate_first: float
    write_rate_last: float
    #: bytes per image
    sql_bytes: float
    sql_bytes_without_masks: float
    claim_ms: float
    #: `tagmill.ledger.runs.progress.run_progress`
    status_ms: float
    #: `tagmill run status`; most of it is the start of Python
    status_command_ms: float
    results_rate: float
    results_megabytes: float


@dataclass(frozen=True)
class Ran:
    """The time and the peak memory of a command."""

    seconds: float
    megabytes: float


def run_command(env: Mapping[str, str], *arguments: object) -> Ran:
    """Run a `tagmill` command. Raise RuntimeError if it fails."""
    started, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as errors:
        command = [TAGMILL, *map(str, arguments)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            peak = max(peak, peak_megabytes(process.pid))
            time.sleep(0.02)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{errors.read().decode()[-2000:]}")
    return Ran(time.perf_counter() - started, peak)


def peak_megabytes(pid: int | str) -> float:
    """Return the peak resident size of a process until now; what wait4 returns is at least that of its parent."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


class Site:
    """A new database and Redis with one registered model."""

    def __init__(self, url: str, broker: str, folder: Path) -> None:
        self.engine = connect(url)
        upgrade(self.engine)
        register(self.engine, BundleSpec("bench", CLASSIFY, ("a",), PreprocessSpec(8, 8)), MODEL)
        self.redis = redis.Redis.from_url(broker)
        self.folder = folder
        self._env = environment(database_url=url, broker_url=broker, model_store=folder / "models")

    def start(self, *arguments: object) -> "subprocess.Popen[bytes]":
        """Start a `tagmill` command."""
        command = [TAGMILL, *map(str, arguments)]
        return subprocess.Popen(command, env=self._env, stdout=subprocess.DEVNULL)

    def run(self, *arguments: object) -> Ran:
        """Run a `tagmill` command. Raise RuntimeError if it fails."""
        return run_command(self._env, *arguments)

    def redis_memory(self) -> int:
        """Return the memory that Redis uses, in bytes."""
        return int(self.redis.info("memory")["used_memory"])

    def sql_bytes(self) -> tuple[int, int]:
        """Return the bytes of all tables with their indexes, and those of the mask table."""
        sqlite = self.engine.dialect.name == "sqlite"
        statements = (_SQLITE_BYTES, _SQLITE_MASKS) if sqlite else (_POSTGRESQL_BYTES, _POSTGRESQL_MASKS)
        with self.engine.connect() as connection:
            everything, masks = (int(connection.execute(text(found)).scalar_one()) for found in statements)
        return everything, masks


def measure(site: Site, images: int) -> Measured:
    """Measure one run from its manifest to its results."""
    manifest = write_manifest(site.folder / "manifest.csv", images)
    empty_redis, (empty_sql, _) = site.redis_memory(), site.sql_bytes()
    submit = site.run("submit", manifest, "--model", "bench")
    redis_bytes = (site.redis_memory() - empty_redis) / images
    (run_id, ids) = _batches(site.engine)
    rates = fill(site.engine, run_id, ids[:-CALLS])
    claims: list[Claim] = []
    claim_ms = timed(lambda: claims.append(_claim(site.engine, run_id, ids[len(claims) - CALLS])), CALLS)
    status_ms = timed(lambda: run_progress(site.engine, run_id), CALLS)
    for claimed in claims:
        _complete(site.engine, claimed)
    everything, masks = site.sql_bytes()
    command_ms = timed(lambda: site.run("run", "status", run_id), COMMANDS)
    results = site.run("results", run_id, "-o", site.folder / "results.csv")
    return Measured(
        database=site.engine.dialect.name,
        images=images,
        submit_rate=images / submit.seconds,
        submit_megabytes=submit.megabytes,
        redis_bytes=redis_bytes,
        write_rate_first=rates[0],
        write_rate_last=rates[-1],
        sql_bytes=(everything - empty_sql) / images,
        sql_bytes_without_masks=(everything - empty_sql - masks) / images,
        claim_ms=claim_ms,
        status_ms=status_ms,
        status_command_ms=command_ms,
        results_rate=images / results.seconds,
        results_megabytes=results.megabytes,
    )


def write_manifest(path: Path, images: int) -> Path:
    """Write a manifest of images that do not exist; this benchmark opens none."""
    with path.open("w") as out:
        out.write("image_key,uri\n")
        out.writelines(f"sku-{number:09d},pictures/{number % 1000:03d}/{number:09d}.jpg\n" for number in range(images))
    return path


def fill(engine: Engine, run_id: int, ids: Sequence[int]) -> list[float]:
    """Claim and complete batches; return the images/s of each tenth of them."""
    rates, step = [], -(-len(ids) // 10)
    for start in range(0, len(ids), step):
        part, busy = ids[start : start + step], 0.0
        for found in part:
            claimed, result = None, None
            began = time.perf_counter()
            claimed = _claim(engine, run_id, found)
            busy += time.perf_counter() - began
            result = result_of([entry.position for entry in claimed.images], MODEL)
            began = time.perf_counter()
            complete(engine, claimed, result, "worker")
            busy += time.perf_counter() - began
        rates.append(len(part) * IMAGES / busy)
    return rates


def timed(call: Callable[[], object], times: int) -> float:
    """Return the median time of a call in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)


def _batches(engine: Engine) -> tuple[int, Sequence[int]]:
    with engine.connect() as connection:
        found = connection.execute(select(batch.c.run_id, batch.c.id).order_by(batch.c.seq)).all()
    return found[0].run_id, [row.id for row in found]


def _claim(engine: Engine, run_id: int, batch_id: int) -> Claim:
    claimed = leases.claim(engine, run_id, batch_id, QUEUE, Lease(f"bench:{batch_id}", 3600.0, 3))
    if claimed is None:
        raise RuntimeError(f"batch {batch_id} is not free")
    return claimed


def _complete(engine: Engine, claimed: Claim) -> None:
    complete(engine, claimed, result_of([entry.position for entry in claimed.images], MODEL), "worker")


def line(found: Measured) -> str:
    """Return one line of the table."""
    cells = (
        f"{found.database} | {found.images:,} | {found.submit_rate:,.0f} | {found.submit_megabytes:.0f}",
        f"{found.redis_bytes:.1f} | {found.write_rate_first:,.0f}, {found.write_rate_last:,.0f}",
        f"{found.sql_bytes:,.0f} | {found.sql_bytes_without_masks:,.0f} | {found.claim_ms:.1f} | {found.status_ms:.1f}",
        f"{found.status_command_ms:.0f} | {found.results_rate:,.0f} | {found.results_megabytes:.0f}",
    )
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| database | images | submit, images/s | submit, MB | Redis, bytes an image "
    "| write, images/s: first, last tenth | SQL, bytes an image | without masks "
    "| claim, ms | status, ms | `run status`, ms | results, images/s | results, MB |"
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000], help="run sizes, at least 5,000")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="measure only this database")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    measured: list[Measured] = []
    with PostgresServer() as server:
        print(
            f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, psycopg {psycopg.__version__}, "
            f"PostgreSQL {server.version}, SQLite {sqlite3.sqlite_version}; {IMAGES} images a batch, {LABELS} labels "
            f"and {MASKS} masks of about 416 characters an image"
        )
        print(f"{HEADER}\n|{'---|' * HEADER.count(' | ')}---|", flush=True)
        for images in options.images:
            for database in [options.database] if options.database else ["sqlite", "postgresql"]:
                measured.append(_on(database, server, images))
                print(line(measured[-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps([asdict(found) for found in measured], indent=2) + "\n")


def _on(database: str, server: PostgresServer, images: int) -> Measured:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(RedisServer())
        if database == "sqlite":
            url = f"sqlite:///{folder}/scale.db"
        else:
            url = create_database(server.url)
            stack.callback(drop_database, server.url, url)
        site = Site(url, broker.url, folder)
        stack.callback(site.engine.dispose)
        stack.callback(site.redis.close)
        return measure(site, images)


if __name__ == "__main__":
    main()

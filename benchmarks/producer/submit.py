"""Measure `tagmill submit` of large manifests to PostgreSQL and Redis: rows per second, and peak memory.

`PYTHONPATH=tests python -m benchmarks.producer.submit --rows 100000 10000000 [--format parquet csv s3] [--json FILE]`
starts its own PostgreSQL, without fsync, and Redis. It writes each manifest below `--work`, or to moto's S3 server as
objects of 100,000 rows, submits it to a new database with the command, and removes both. No image is read.

*rows/s* is over the whole command, from its start to its end. *write* is from the beginning of the run's transaction to
the first batch that is published, *publish* from there to the last. *MB* is the peak resident size of the command's
process alone, and *temporary, MB* the largest size of its temporary files. `--repeated 10` names each location ten
times, far apart.

The largest manifest needs room for: itself, 16 (Parquet) or 60 (CSV) bytes a row; temporary files, 60; PostgreSQL with
its write-ahead log, 300. moto keeps its objects in memory.
"""

import argparse
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import func, select
from support.s3_server import S3Server
from support.services import PostgresServer, RedisServer, create_database, drop_database

from benchmarks.producer.scale import Site
from benchmarks.support.machine import machine, tell
from tagmill.db.schema import batch, run

#: rows that are written to a manifest at a time
CHUNK = 100_000
#: seconds between two looks at a process
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Measured:
    """The results of one manifest."""

    format: str
    rows: int
    #: rows of each location
    repeated: int
    seconds: float
    write_seconds: float
    publish_seconds: float
    batches: int
    megabytes: float
    temporary_megabytes: float
    #: bytes a row
    sql_bytes: float
    redis_bytes: float


def rows_of(rows: int, repeated: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield keys and locations, `CHUNK` at a time; each location comes `repeated` times."""
    different = -(-rows // repeated)
    for start in range(0, rows, CHUNK):
        numbers = range(start, min(rows, start + CHUNK))
        uris = [f"https://img.example.com/{n % 1000:03d}/{n % different:09d}.jpg" for n in numbers]
        yield [f"sku-{n:09d}" for n in numbers], uris


def write_parquet(path: Path, rows: int, repeated: int) -> None:
    """Write one Parquet file."""
    with pq.ParquetWriter(path, pa.schema([("image_key", pa.string()), ("uri", pa.string())])) as out:
        for keys, uris in rows_of(rows, repeated):
            out.write_table(pa.table({"image_key": keys, "uri": uris}))


def write_csv(path: Path, rows: int, repeated: int) -> None:
    """Write one CSV file."""
    with path.open("w") as out:
        out.write("image_key,uri\n")
        for keys, uris in rows_of(rows, repeated):
            out.writelines(f"{key},{uri}\n" for key, uri in zip(keys, uris, strict=True))


def write_shards(folder: Path, rows: int, repeated: int) -> Iterator[Path]:
    """Write Parquet files of `CHUNK` rows one after the other; each is removed when the next is asked for."""
    for number, (keys, uris) in enumerate(rows_of(rows, repeated)):
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(pa.table({"image_key": keys, "uri": uris}), path)
        yield path
        path.unlink()


@contextmanager
def one_file(folder: Path, kind: str, rows: int, repeated: int) -> Iterator[str]:
    """Yield a manifest in a file."""
    path = folder / f"manifest.{kind}"
    {"parquet": write_parquet, "csv": write_csv}[kind](path, rows, repeated)
    yield str(path)
    path.unlink()


@contextmanager
def objects(folder: Path, rows: int, repeated: int) -> Iterator[str]:
    """Yield a manifest in Parquet files of an object store, whose server is named in the environment meanwhile."""
    before = dict(os.environ)
    with S3Server() as server:
        for path in write_shards(folder, rows, repeated):
            server.put("catalogs", {f"shop/{path.name}": path.read_bytes()})
        os.environ.update(server.environment)
        try:
            yield "s3://catalogs/shop/*.parquet"
        finally:
            os.environ.clear()
            os.environ.update(before)


KINDS: dict[str, Callable[..., AbstractContextManager[str]]] = {
    "parquet": partial(one_file, kind="parquet"),
    "csv": partial(one_file, kind="csv"),
    "s3": objects,
}


class Command(threading.Thread):
    """A `tagmill` command that runs, and what is seen of its process: its peak memory and its temporary files.

    The usage that the kernel reports at the end would include the memory of this process, which started it.
    """

    def __init__(self, site: Site, *arguments: object) -> None:
        super().__init__(daemon=True)
        self._began = time.perf_counter()
        self._process = site.start(*arguments)
        self._folder = Path("/proc") / str(self._process.pid)
        #: bytes
        self.memory = self.temporary = 0
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        """Look until the process ends."""
        while self._process.poll() is None:
            with suppress(OSError):  # it ended just now
                self._look()
            time.sleep(LOOK_SECONDS)

    def wait(self) -> None:
        """Wait for the end of the command. Raise RuntimeError if it fails."""
        code = self._process.wait()
        self.seconds = time.perf_counter() - self._began
        self.join()
        if code:
            raise RuntimeError(f"the command ended with {code}")

    def _look(self) -> None:
        peak = re.search(r"^VmHWM:\s+(\d+) kB", (self._folder / "status").read_text(), re.MULTILINE)
        self.memory = max(self.memory, 1024 * int(peak[1]) if peak else 0)
        links = [link for link in (self._folder / "fd").iterdir() if str(link.readlink()).endswith(" (deleted)")]
        self.temporary = max(self.temporary, sum(link.stat().st_size for link in links))


def measure(site: Site, source: str, kind: str, rows: int, repeated: int) -> Measured:
    """Submit a manifest, and return what was measured."""
    empty_redis, (empty_sql, _) = site.redis_memory(), site.sql_bytes()
    command = Command(site, "submit", source, "--model", "bench")
    command.wait()
    with site.engine.connect() as connection:
        times = select(func.min(batch.c.published_at), func.max(batch.c.published_at), func.count())
        first, last, batches = connection.execute(times).one()
        created = connection.execute(select(run.c.created_at)).scalar_one()
    return Measured(
        format=kind,
        rows=rows,
        repeated=repeated,
        seconds=command.seconds,
        write_seconds=first - created,
        publish_seconds=last - first,
        batches=batches,
        megabytes=command.memory / 2**20,
        temporary_megabytes=command.temporary / 2**20,
        sql_bytes=(site.sql_bytes()[0] - empty_sql) / rows,
        redis_bytes=(site.redis_memory() - empty_redis) / rows,
    )


def line(found: Measured) -> str:
    """Return one line of the table."""
    cells = (
        f"{found.format} | {found.rows:,} | {found.repeated} | {found.rows / found.seconds:,.0f}",
        f"{found.seconds:.1f} | {found.write_seconds:.1f} | {found.publish_seconds:.1f}",
        f"{found.batches / max(found.publish_seconds, 0.001):,.0f} | {found.megabytes:.0f}",
        f"{found.temporary_megabytes:.0f} | {found.sql_bytes:.0f} | {found.redis_bytes:.1f}",
    )
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| manifest | rows | rows a location | rows/s | s | write, s | publish, s | messages/s | MB | temporary, MB "
    "| SQL, bytes a row | Redis, bytes a row |"
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--format", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--repeated", type=int, default=1, help="rows of each location")
    parser.add_argument("--work", type=Path, help="folder for the manifests; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    measured: list[Measured] = []
    with PostgresServer() as server, tempfile.TemporaryDirectory(dir=options.work) as folder:
        print(f"{machine()}; PostgreSQL {server.version}\n{HEADER}")
        print(f"|{'---|' * (HEADER.count('|') - 1)}", flush=True)
        for kind in options.format:
            for rows in options.rows:
                measured.append(measure_manifest(server.url, Path(folder), kind, rows, options.repeated))
                print(line(measured[-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps([asdict(found) for found in measured], indent=2) + "\n")
        for kind in options.format:
            of_kind = [found for found in measured if found.format == kind]
            ratio = of_kind[-1].megabytes / of_kind[0].megabytes
            print(
                f"{kind}: peak memory for {of_kind[-1].rows:,} rows is {ratio:.2f} times that for {of_kind[0].rows:,}"
            )


def measure_manifest(server_url: str, folder: Path, kind: str, rows: int, repeated: int) -> Measured:
    """Write a manifest, submit it to a new database, and return what was measured."""
    with ExitStack() as stack:
        tell(f"writing {rows:,} rows of {kind}")
        source = stack.enter_context(KINDS[kind](folder, rows=rows, repeated=repeated))
        broker = stack.enter_context(RedisServer())
        url = create_database(server_url)
        stack.callback(drop_database, server_url, url)
        site = Site(url, broker.url, folder)
        stack.callback(site.engine.dispose)
        stack.callback(site.redis.close)
        return measure(site, source, kind, rows, repeated)


if __name__ == "__main__":
    main()

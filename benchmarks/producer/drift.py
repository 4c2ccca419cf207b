"""Measure `tagmill drift` on two large runs: seconds, and the peak of its memory.

`PYTHONPATH=tests python -m benchmarks.producer.drift --images 1000000` fills a PostgreSQL that it starts with two runs
of other images each, of one classifier with 40 labels, and runs the command as a user does. One of a hundred images
failed, and the entries have one of 30 sellers. With `--width N` each image has an embedding of N numbers. With
`--sqlite`, which is for runs without embeddings, the rows are copied to a SQLite file, and the command is run on it,
too. The time is that of the whole command, with its start. On a machine that does other work, too, look at the CPU
seconds of command and server: the time cannot be less than those, divided by the cores.
"""

import argparse
import os
import platform
import sqlite3
import statistics
import tempfile
from pathlib import Path

import psycopg
import sqlalchemy
from sqlalchemy import Engine, text
from support.filled import add_tagged_run
from support.processes import environment
from support.services import PostgresServer, create_database, find_pgvector

from benchmarks.producer.results import copy_tables, measure
from benchmarks.support.machine import tell
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.images.preprocess import PreprocessSpec
from tagmill.machine import cpu_name, usable_cores
from tagmill.registry.models import register
from tagmill.tasks.classify import CLASSIFY

SELLERS = 30
#: different embeddings; the images take turns
VECTORS = 1000

_SELLERS = """
UPDATE entry SET extra = json_build_object('price', 9.5, 'seller', 'seller ' || position % CAST(:sellers AS int))::text
"""
_VECTORS = f"""
CREATE TEMPORARY TABLE vector_of AS
SELECT number, l2_normalize(array_agg(random() - 0.3)::vector)::halfvec AS vector
FROM generate_series(0, {VECTORS - 1}) AS number, generate_series(1, :width) GROUP BY number
"""
_EMBEDDINGS = f"""
INSERT INTO embedding (image_id, model_id, vector)
SELECT image_id, model_id, vector FROM result JOIN vector_of ON number = image_id % {VECTORS} ORDER BY image_id
"""


def fill(engine: Engine, images: int, width: int) -> None:
    """Fill a PostgreSQL with run 1 and run 2."""
    upgrade(engine)
    model = register(engine, BundleSpec("bench", CLASSIFY, ("a",), PreprocessSpec(8, 8)), "f" * 64)
    with engine.begin() as connection:
        for _ in range(2):
            add_tagged_run(connection, model, images, masks=0)
        connection.execute(text(_SELLERS), {"sellers": SELLERS})
        if width:
            connection.execute(text(_VECTORS), {"width": width})
            connection.execute(text(_EMBEDDINGS))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def server_cpu(server: PostgresServer) -> float:
    """Return the CPU seconds of the server's processes that have ended, such as those of connections."""
    pid = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[13:15])) / os.sysconf("SC_CLK_TCK")


def measured(server: PostgresServer, url: str, words: tuple[object, ...]) -> tuple[float, ...]:
    """Run the command; return its seconds, its CPU seconds, those of the server, and the most memory that it held."""
    before = server_cpu(server)
    seconds, cpu, memory = measure(environment(database_url=url), *words)
    return seconds, cpu, server_cpu(server) - before, memory


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="images of each of the two runs")
    parser.add_argument("--width", type=int, default=0, help="numbers of an embedding")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sqlite", action="store_true", help="also on SQLite")
    options = parser.parse_args()
    if options.sqlite and options.width:
        parser.error("--sqlite is for runs without embeddings: leave --width out")
    with PostgresServer(find_pgvector()) as server, tempfile.TemporaryDirectory() as name:
        urls = {"PostgreSQL": create_database(server.url)}
        tell("filling the database")
        engine = connect(urls["PostgreSQL"])
        fill(engine, options.images, options.width)
        if options.sqlite:
            urls["SQLite"] = f"sqlite:///{Path(name)}/bench.db"
            target = connect(urls["SQLite"])
            upgrade(target)
            copy_tables(engine, target)
            target.dispose()
        engine.dispose()
        print(
            f"{cpu_name()}, {usable_cores()} cores; Python {platform.python_version()}, SQLAlchemy "
            f"{sqlalchemy.__version__}, psycopg {psycopg.__version__}, PostgreSQL {server.version}, SQLite "
            f"{sqlite3.sqlite_version}; median of n = {options.repeats}"
        )
        print(
            "| command | database | images | embedding | seconds | its CPU s | CPU s of PostgreSQL | peak memory, MiB |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for database, url in urls.items():
            for more in ((), ("--by", "seller")):
                words = ("drift", 2, "--reference", 1, *more)
                found = [measured(server, url, words) for _ in range(options.repeats)]
                seconds, cpu, of_server, memory = (statistics.median(values) for values in zip(*found, strict=True))
                line = f"| `{' '.join(map(str, words))}` | {database} | {options.images:,} | {options.width or '–'} "
                print(f"{line}| {seconds:.1f} | {cpu:.1f} | {of_server:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()

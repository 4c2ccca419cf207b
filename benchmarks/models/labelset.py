"""Measure how fast a label set labels the embeddings that PostgreSQL holds.

`PYTHONPATH=tests python -m benchmarks.models.labelset --images 1000000` fills a database with the rows that workers
would have written for a run, and prints the seconds of `tagmill labelset apply`: reading all embeddings, the matrix
products, the results, and what the catalog shows. A second call, which finds nothing to do, is timed, too. The
PostgreSQL server is started for the benchmark, with the settings of the tests, and does not wait for the disk. Beside
the seconds, it prints those of CPU time of this process and of PostgreSQL, which other work on the machine changes
less.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text
from support.services import PostgresServer, create_database

from benchmarks.support.machine import machine
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.bulk import insert_rows
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import embedding
from tagmill.images.preprocess import PreprocessSpec
from tagmill.labelsets.label_set import LabelSet, Threshold
from tagmill.ledger.labels.apply import apply_label_set
from tagmill.registry.label_sets import load_label_set, register_label_set
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

CHUNK = 20_000
#: rows of a run as workers leave them, one image an entry
_ROWS = """
INSERT INTO run (id, source, parameters, queue, state, created_at) VALUES (1, 'benchmark', '{}', 'q', 'open', 0);
INSERT INTO run_model (run_id, model_id) VALUES (1, 1);
INSERT INTO entry (run_id, position, image_key, uri)
    SELECT 1, n - 1, 'key-' || n, '/shop/' || n || '.jpg' FROM generate_series(1, {images}) AS n;
INSERT INTO image_content (id, bytes, width, height, format, sha256)
    SELECT n, 100000, 800, 800, 'JPEG', sha256(n::text::bytea) FROM generate_series(1, {images}) AS n;
INSERT INTO result (image_id, model_id, provider_id, batch_id, created_at, score_1, label_1, worker_id)
    SELECT n, 1, 1, 1 + n / 64, 0, 0.5, 1, 1 FROM generate_series(1, {images}) AS n;
INSERT INTO catalog_entry (image_id, changed_at, run_id, position, name_id, model_id, place, image_key)
    SELECT n, 0, 1, n - 1, 1, 1, 0, 'key-' || n FROM generate_series(1, {images}) AS n
"""


def main() -> None:
    """Fill a database, label it, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--labels", type=int, default=20)
    asked = parser.parse_args()
    print(machine())
    with PostgresServer() as server:
        engine = connect(create_database(server.url))
        upgrade(engine)
        base = register(
            engine, BundleSpec("base", CLASSIFY, ("a", "b"), PreprocessSpec(8, 8), embedding=asked.width), "0" * 64
        )
        _fill(engine, asked.images, asked.width)
        register_label_set(engine, _label_set(base, asked.width, asked.labels), base)
        found = load_label_set(engine, "goods")
        for which in ("first", "second"):
            started, own, others = time.perf_counter(), time.process_time(), _server_seconds(engine)
            done = apply_label_set(engine, found, writer="benchmark:1")
            seconds = time.perf_counter() - started
            own, others = time.process_time() - own, _server_seconds(engine) - others
            print(f"{which} call: {done}, {seconds:.1f} s, {done.images / seconds:,.0f} images/s")
            print(f"CPU: {own:.1f} s of this process, {others:.1f} s of PostgreSQL")
        engine.dispose()


def _server_seconds(engine: Engine) -> float:
    """Return the CPU time of the server's processes; the pool keeps their connections."""
    with engine.connect() as connection:
        processes = connection.execute(text("SELECT pid FROM pg_stat_activity")).scalars().all()
    spent = 0.0
    for number in processes:
        with suppress(FileNotFoundError):
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def _fill(engine: Engine, images: int, width: int) -> None:
    with engine.begin() as connection:
        for statement in _ROWS.replace("{images}", str(images)).split(";"):
            connection.exec_driver_sql(statement)
    for rows in _embeddings(images, width):
        with engine.begin() as connection:
            insert_rows(connection, embedding, ("image_id", "model_id", "vector"), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _embeddings(images: int, width: int) -> Iterator[list[tuple[int, int, np.ndarray]]]:
    draw = np.random.default_rng(0)
    for first in range(1, images + 1, CHUNK):
        count = min(CHUNK, images + 1 - first)
        vectors = draw.normal(size=(count, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield [(first + number, 1, vectors[number]) for number in range(count)]


def _label_set(base: Model, width: int, labels: int) -> LabelSet:
    draw = np.random.default_rng(1)
    prototypes = draw.normal(size=(labels, width)).astype(np.float32)
    projection = np.linalg.qr(draw.normal(size=(width, width)))[0].astype(np.float32) * np.float32(width**0.5)
    names = tuple(f"label {number}" for number in range(labels))
    return LabelSet("goods", names, base.sha256, prototypes, projection, 5.0, Threshold(600.0, 0.05))


if __name__ == "__main__":
    main()

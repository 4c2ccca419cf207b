"""Compare `tagmill.ledger.complete.complete` with writing the same rows directly.

`PYTHONPATH=tests python -m benchmarks.sql --pairs 30` prints for SQLite and PostgreSQL the ratio of Tagmill's images/s
to the raw images/s: the median and the range over alternating pairs of rounds. A round writes ten batches of 64 images,
one transaction per batch. Each image has one inference, five labels, two masks of 400 bytes, one hashed file and its
outcome.

The raw way is binary COPY by psycopg, or executemany by sqlite3, into the same tables with the same indexes and keys.
It checks no conflicts, returns no ids, and inserts an outcome as a row instead of updating one. Tagmill's time includes
everything that `complete` does: lock the batch, find new rows, update the outcomes, count, set the batch to done. The
PostgreSQL server is started for the benchmark and does not wait for the disk; with a disk the two ways come closer.
"""

import argparse
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import Engine, func, select
from support.services import PostgresServer, create_database

from benchmarks.support.comparing import spread
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import batch, inference
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger import leases
from tagmill.ledger.complete import complete
from tagmill.ledger.leases import Claim, Lease
from tagmill.ledger.runs import create_run
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome, SeenFile
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

QUEUE = "benchmark"
IMAGES, LABELS, MASKS, RLE_BYTES = 64, 5, 2, 400
#: batches per round
BATCHES = 10
#: characters of COCO's compressed run lengths
_RLE = "".join(map(chr, range(48, 112)))
_RLES = ["".join(random.choices(_RLE, k=RLE_BYTES)) for _ in range(256)]

#: table -> columns that the raw way fills, with psycopg's names of their types
TABLES = {
    "image": "sha256 text, width int4, height int4, format text, bytes int8",
    "inference": "id int8, image_sha256 text, model_sha256 text, batch_id int8, provider text, worker text, "
    "created_at float8",
    "label": "inference_id int8, rank int4, label text, score float8",
    "mask": "inference_id int8, label text, rle text, height int4, width int4, area_share float8, box_left float8, "
    "box_top float8, box_right float8, box_bottom float8, score float8",
    "file_seen": "identity text, sha256 text",
    "run_image": "run_id int8, position int4, batch_id int8, image_key text, uri text, sha256 text, status text",
}

Rows = dict[str, list[tuple[Any, ...]]]
_shas = count(1)


def result_of(positions: Sequence[int], model: str, masks: int = MASKS) -> BatchResult:
    """Return synthetic results for images that are not in the database."""
    shas = [f"{random.getrandbits(192):048x}{next(_shas):016x}" for _ in positions]
    return BatchResult(
        [Outcome(position, sha256) for position, sha256 in zip(positions, shas, strict=True)],
        [ImageRow(sha256, 800, 600, "JPEG", 88_000) for sha256 in shas],
        [_answer(sha256, model, masks) for sha256 in shas],
        [SeenFile(sha256[::-1], sha256) for sha256 in shas],
    )


def _answer(sha256: str, model: str, masks: int) -> InferenceRow:
    labels = tuple((f"label {rank}", random.random()) for rank in range(LABELS))
    found = (
        Mask(f"mask {place}", random.choice(_RLES), 256, 256, 0.25, (1.0, 2.0, 3.0, 4.0), 0.9) for place in range(masks)
    )
    return InferenceRow(sha256, model, "CPUExecutionProvider", labels, tuple(found))


def raw_rows(claimed: Claim, result: BatchResult, position: int, inference: int) -> Rows:
    """Return the rows of a batch, with image positions from `position` and ids from `inference` on."""
    rows: Rows = {name: [] for name in TABLES}
    for place, (image, answer, file) in enumerate(zip(result.images, result.inferences, result.files, strict=True)):
        row_id, at = inference + place, position + place
        rows["image"].append((image.sha256, image.width, image.height, image.format, image.bytes))
        rows["inference"].append((row_id, image.sha256, answer.model_sha256, claimed.batch_id, "CPU", "worker", 1.0))
        rows["label"] += [(row_id, rank, *found) for rank, found in enumerate(answer.labels, 1)]
        for mask in answer.masks:
            size = (mask.height, mask.width, mask.area_share)
            rows["mask"].append((row_id, mask.label, mask.rle, *size, *mask.box, mask.score))
        rows["file_seen"].append((file.identity, file.sha256))
        entry = (f"key-{at}", f"/catalog/pictures/{at:08d}.jpg", image.sha256, "tagged")
        rows["run_image"].append((claimed.run_id, at, claimed.batch_id, *entry))
    return rows


def copy_rows(engine: Engine, rows: Rows) -> None:
    """Write the rows by binary COPY in one transaction."""
    with _raw(engine) as raw:
        for table, columns in TABLES.items():
            names, types = zip(*(column.split() for column in columns.split(", ")), strict=True)
            with (
                raw.cursor() as cursor,
                cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.set_types(types)
                for row in rows[table]:
                    copy.write_row(row)
        raw.commit()


def executemany_rows(engine: Engine, rows: Rows) -> None:
    """Write the rows by the driver's executemany in one transaction."""
    with _raw(engine) as raw:
        raw.execute("BEGIN IMMEDIATE")
        for table, columns in TABLES.items():
            names = [column.split()[0] for column in columns.split(", ")]
            places = ", ".join("?" * len(names))
            raw.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", rows[table])
        raw.execute("COMMIT")


@contextmanager
def _raw(engine: Engine) -> Iterator[Any]:
    pooled = engine.raw_connection()
    try:
        yield pooled.driver_connection
    finally:
        pooled.close()


class Bench:
    """A database with one registered model, in which each round completes the batches of a new run."""

    def __init__(self, url: str, model: str = "f" * 64) -> None:
        self.engine = connect(url)
        upgrade(self.engine)
        self.model = register(self.engine, BundleSpec("bench", CLASSIFY, ("a",), PreprocessSpec(8, 8)), model)
        self.write = copy_rows if self.engine.dialect.name == "postgresql" else executemany_rows

    def round(self, *, raw: bool) -> float:
        """Run one round and return its images/s."""
        claims = claim_all(self.engine, new_run(self.engine, self.model, BATCHES))
        results = [result_of([entry.position for entry in found.images], self.model.sha256) for found in claims]
        ids = count(self._free_id(), IMAGES)
        calls: list[Callable[[], object]] = []
        for claimed, result in zip(claims, results, strict=True):
            if raw:
                number = next(ids)
                calls.append(partial(self.write, self.engine, raw_rows(claimed, result, number, number)))
            else:
                calls.append(partial(complete, self.engine, claimed, result, "worker"))
        started = time.perf_counter()
        for call in calls:
            call()
        return BATCHES * IMAGES / (time.perf_counter() - started)

    def _free_id(self) -> int:
        # SQLite continues from the highest id; PostgreSQL's sequence stays below 10**9.
        with self.engine.connect() as connection:
            return max(10**9, connection.execute(select(func.max(inference.c.id))).scalar_one() or 0) + 1


def new_run(engine: Engine, model: Model, batches: int) -> int:
    """Create a run in SQL without publishing messages."""
    entries = (Entry(f"key-{number}", f"/catalog/pictures/{number:08d}.jpg") for number in range(batches * IMAGES))
    return create_run(engine, "benchmark", entries, [model], [Path("/catalog")], IMAGES, QUEUE)


def claim_all(engine: Engine, run_id: int) -> list[Claim]:
    """Claim every batch of a run."""
    with engine.connect() as connection:
        ids = connection.execute(select(batch.c.id).where(batch.c.run_id == run_id)).scalars().all()
    claims = (leases.claim(engine, run_id, found, QUEUE, Lease(f"bench:{found}", 3600.0, 3)) for found in ids)
    return [claimed for claimed in claims if claimed is not None]


def compare(url: str, pairs: int) -> str:
    """Measure one database and return its line of the table."""
    bench = Bench(url)
    for raw in (False, True) * 2:
        bench.round(raw=raw)  # warm up plans and caches
    rates = [{raw: bench.round(raw=raw) for raw in order} for order in _orders(pairs)]
    ratios = [rate[False] / rate[True] for rate in rates]
    own, plain = (statistics.median(rate[raw] for rate in rates) for raw in (False, True))
    name = bench.engine.dialect.name
    bench.engine.dispose()
    return f"| {name} | {own:,.0f} | {plain:,.0f} | {spread(ratios)} |"


def _orders(pairs: int) -> Iterator[tuple[bool, bool]]:
    for number in range(pairs):
        yield (False, True) if number % 2 else (True, False)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30, help="rounds per way")
    options = parser.parse_args()
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        print(
            f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, psycopg {psycopg.__version__}, "
            f"PostgreSQL {server.version}, SQLite {sqlite3.sqlite_version}; {IMAGES} images a batch, {LABELS} labels "
            f"and {MASKS} masks of {RLE_BYTES} bytes an image, {options.pairs} pairs: median [range]"
        )
        print("| database | Tagmill, images/s | raw, images/s | ratio |\n|---|---|---|---|")
        for url in (f"sqlite:///{folder}/bench.db", create_database(server.url)):
            print(compare(url, options.pairs), flush=True)


if __name__ == "__main__":
    main()

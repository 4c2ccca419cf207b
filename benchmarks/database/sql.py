"""Compare `tagmill.ledger.complete.complete` with writing the same rows directly.

`PYTHONPATH=tests python -m benchmarks.database.sql --pairs 30` prints for SQLite and PostgreSQL the ratio of Tagmill's
images/s to the raw images/s: the median and the range over alternating pairs of rounds. A round writes ten batches of
64 images, one transaction per batch. Each image has one inference, five labels, two masks of about 416 characters, one
hashed file and its outcome.

The raw way is binary COPY by psycopg, or executemany by sqlite3, of the same rows into the same tables with the same
indexes and keys. It checks no conflicts, returns no ids and sets no batch to done. Tagmill's time includes everything
that `complete` does: find new rows, number images and names, pack masks, compare runs, count, set the batch to done.
The PostgreSQL server is started for the benchmark and does not wait for the disk; with a disk the two ways come closer.
"""

import argparse
import math
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import sqlalchemy
from pycocotools import mask as coco
from sqlalchemy import Engine, func, select
from support.services import PostgresServer, create_database

from benchmarks.support.comparing import spread
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import batch, image_content
from tagmill.db.types import Hash128, Integers, Rle, Sha256
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome, SeenFile
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

QUEUE = "benchmark"
IMAGES, LABELS, MASKS = 64, 5, 2
#: batches per round
BATCHES = 10
#: words of which an image gets five
VOCABULARY = [f"label {number}" for number in range(20)]

#: table -> columns that the raw way fills, with psycopg's names of their types
TABLES = {
    "image_content": "id int8, sha256 bytea, width int4, height int4, format text, bytes int8",
    "result": "image_id int8, model_id int4, batch_id int8, provider_id int4, worker_id int4, created_at float8, "
    + ", ".join(f"label_{rank} int4" for rank in range(1, LABELS + 1))
    + ", "
    + ", ".join(f"score_{rank} float8" for rank in range(1, LABELS + 1)),
    "result_mask": "image_id int8, model_id int4, label_id int4, rle bytea, height int2, width int2, "
    "area_share float8, box_left float8, box_top float8, box_right float8, box_bottom float8, score float8",
    "known_file": "identity uuid, image_id int8",
    "batch_outcome": "batch_id int8, image_ids int8[]",
    "catalog_entry": "image_key text, name_id int4, place int2, run_id int4, position int4, image_id int8, "
    "model_id int4, changed_at float8",
}

Rows = dict[str, list[tuple[Any, ...]]]
_shas = count(1)
_keys = count(1)


@cache
def run_lengths() -> list[str]:
    """Return COCO's run lengths of 256 drawn shapes at 256 x 256 pixels.

    They are about as long as those of real masks, and take as many bits a character when they are packed (4.0; 4.1 for
    the 311 masks of `tagmill demo`, of 494 characters on average).
    """
    found, drawn = [], random.Random(0)
    rows, columns = np.mgrid[:256, :256]
    for _ in range(256):
        # An outline that wobbles, as of a garment: its waves set how long the text becomes.
        radius = 84 + sum(
            drawn.uniform(0, 6) * np.sin(waves * np.arctan2(rows - 128, columns - 128) + drawn.uniform(0, 6))
            for waves in (2, 3, 5, 9, 14)
        )
        shape = np.hypot(rows - 128, columns - 128) < radius
        found.append(coco.encode(np.asfortranarray(shape.astype(np.uint8)))["counts"].decode())
    return found


def result_of(positions: Sequence[int], model: str, masks: int = MASKS) -> BatchResult:
    """Return synthetic results for images that are not in the database."""
    shas = [f"{random.getrandbits(192):048x}{next(_shas):016x}" for _ in positions]
    return BatchResult(
        [Outcome(position, sha256) for position, sha256 in zip(positions, shas, strict=True)],
        [ImageRow(sha256, 800, 600, "JPEG", 88_000) for sha256 in shas],
        [_answer(sha256, model, masks) for sha256 in shas],
        [SeenFile(sha256[:31:-1], sha256) for sha256 in shas],
    )


def _answer(sha256: str, model: str, masks: int) -> InferenceRow:
    """Return a classifier's result: five labels, whose scores are those of a softmax, best first."""
    logits = sorted((random.gauss(0, 2) for _ in VOCABULARY), reverse=True)
    total = sum(map(math.exp, logits))
    words = random.sample(VOCABULARY, LABELS)
    labels = tuple((word, math.exp(logit) / total) for word, logit in zip(words, logits, strict=False))
    found = (
        Mask(VOCABULARY[place], random.choice(run_lengths()), 256, 256, 0.25, (1.0, 2.0, 3.0, 4.0), 0.9)
        for place in range(masks)
    )
    return InferenceRow(sha256, model, "CPUExecutionProvider", labels, tuple(found))


def raw_rows(claimed: Claim, result: BatchResult, image: int, dialect: str) -> Rows:
    """Return the rows of a batch, with ids of images from `image` on."""
    rows: Rows = {name: [] for name in TABLES}
    ids = list(range(image, image + len(result.images)))
    for number, found, answer, file, entry in zip(
        ids, result.images, result.inferences, result.files, claimed.images, strict=True
    ):
        key = (number, claimed.pinned[0].id)
        facts = (Sha256().to_driver(dialect)(found.sha256), found.width, found.height, found.format, found.bytes)
        rows["image_content"].append((number, *facts))
        words, scores = zip(*answer.labels, strict=True)
        labels = [VOCABULARY.index(word) for word in words]
        rows["result"].append((*key, claimed.batch_id, 1, 1, 1.0, *labels, *scores))
        for mask in answer.masks:
            size = (mask.height, mask.width, mask.area_share)
            rows["result_mask"].append((*key, 1, Rle().to_driver(dialect)(mask.rle), *size, *mask.box, mask.score))
        rows["known_file"].append((Hash128().to_driver(dialect)(file.identity), number))
        shown = (claimed.run_id, entry.position, number, claimed.pinned[0].id, 1.0)
        rows["catalog_entry"].append((entry.image_key, claimed.pinned[0].name_id, 0, *shown))
    rows["batch_outcome"].append((claimed.batch_id, Integers().to_driver(dialect)(ids)))
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
        images = count(self._free_id(), IMAGES)
        calls: list[Callable[[], object]] = []
        for claimed, result in zip(claims, results, strict=True):
            if raw:
                rows = raw_rows(claimed, result, next(images), self.engine.dialect.name)
                calls.append(partial(self.write, self.engine, rows))
            else:
                calls.append(partial(complete, self.engine, claimed, result, "worker"))
        started = time.perf_counter()
        for call in calls:
            call()
        return BATCHES * IMAGES / (time.perf_counter() - started)

    def _free_id(self) -> int:
        # SQLite continues from the highest id; PostgreSQL's sequence stays below 10**9.
        with self.engine.connect() as connection:
            return max(10**9, connection.execute(select(func.max(image_content.c.id))).scalar_one() or 0) + 1


def new_run(engine: Engine, model: Model, batches: int) -> int:
    """Create a run in SQL without publishing messages."""
    keys = (f"sku-{next(_keys):09d}" for _ in range(batches * IMAGES))
    entries = (Entry(key, f"/catalog/pictures/{key}.jpg") for key in keys)
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
            f"and {MASKS} masks of about 416 characters an image, {options.pairs} pairs: median [range]"
        )
        print("| database | Tagmill, images/s | raw, images/s | ratio |\n|---|---|---|---|")
        for url in (f"sqlite:///{folder}/bench.db", create_database(server.url)):
            print(compare(url, options.pairs), flush=True)


if __name__ == "__main__":
    main()

"""Measure the upgrade of a database from schema 0004 to 0005 beside a worker of the version before.

`PYTHONPATH=tests python -m benchmarks.database.upgrade --images 1000000 [--runs 2] [--masks 2] [--json FILE]` builds a
database of schema 0004 on a PostgreSQL of its own: runs over one catalog in batches of 64, with five labels per image
and masks of 400 bytes. Then it upgrades the database, while a thread with the statements of the version before claims
and completes batches of a further run, one after the other, until the database refuses.
"""

import argparse
import json
import platform
import statistics
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg
import sqlalchemy
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError
from support.services import PostgresServer, create_database
from support.version_0004 import migrate

from benchmarks.database.sql import run_lengths
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.migrations.compact.prepare import Progress

BATCH, LABELS, WORDS = 64, 5, 40
#: queued batches that the worker takes meanwhile
LIVE_BATCHES = 10_000

_SHA256 = "encode(sha256(convert_to('image ' || {number}, 'UTF8')), 'hex')"
_MODEL = "f" * 64
_FILL = (
    """INSERT INTO model VALUES ('{model}', 'bench', 1, 'classify', '[]', '{{}}', '{{}}', 'candidate', 1)""",
    """INSERT INTO run (source, parameters, queue, state, created_at)
       SELECT 'bench', '{{"batch_size": 64, "roots": ["/"]}}', 'tagmill', 'open', 1
       FROM generate_series(1, :runs + 1)""",
    "INSERT INTO run_model SELECT id, '{model}' FROM run",
    """INSERT INTO batch (run_id, seq, status, attempts, published_at, started_at, finished_at, images, tagged,
           inferences)
       SELECT run, seq, 'done', 1, 1, 1, 1, {batch}, {batch}, CASE run WHEN 1 THEN {batch} ELSE 0 END
       FROM generate_series(1, :runs) AS run, generate_series(0, :images / {batch} - 1) AS seq ORDER BY run, seq""",
    """INSERT INTO image SELECT {sha256}, 800, 600, 'JPEG', 88000 FROM generate_series(0, :images - 1) AS number""",
    """INSERT INTO inference (image_sha256, model_sha256, batch_id, provider, worker, created_at)
       SELECT {sha256}, '{model}', number / {batch} + 1, 'CPUExecutionProvider', 'host:' || number % 8, 1.5
       FROM generate_series(0, :images - 1) AS number""",
    """INSERT INTO label SELECT number + 1, rank, 'label ' || (number * 7 + rank * 11) % {words}, random() / rank
       FROM generate_series(0, :images - 1) AS number, generate_series(1, {labels}) AS rank""",
    """INSERT INTO mask SELECT number + 1, 'part ' || place, rles.rle, 256, 256, 0.25, 1, 2, 3, 4, 0.9
       FROM generate_series(0, :images - 1) AS number, generate_series(1, :masks) AS place
       JOIN rles ON true WHERE rles.id = (number + place) % 256""",
    """INSERT INTO run_image
       SELECT run, number, (run - 1) * (:images / {batch}) + number / {batch} + 1, 'sku-' || lpad(number::text, 9, '0'),
           '/srv/catalog/pictures/' || number % 1000 || '/' || number || '.jpg', {sha256}, 'tagged', NULL, NULL
       FROM generate_series(1, :runs) AS run, generate_series(0, :images - 1) AS number""",
    """INSERT INTO file_seen SELECT encode(sha256(convert_to('file ' || number, 'UTF8')), 'hex'), {sha256}
       FROM generate_series(0, :images - 1) AS number""",
    """INSERT INTO batch (run_id, seq, status, attempts, published_at, images)
       SELECT :runs + 1, seq, 'queued', 0, 1, {batch} FROM generate_series(0, {live} - 1) AS seq""",
    """INSERT INTO run_image SELECT run_id, seq * {batch} + place, id, 'live-' || seq * {batch} + place,
           '/srv/catalog/live/' || seq * {batch} + place || '.jpg', NULL, 'pending', NULL, NULL
       FROM batch, generate_series(0, {batch} - 1) AS place WHERE run_id = :runs + 1""",
)
_NOW = "extract(epoch from clock_timestamp())::double precision"
_CLAIM = (
    f"""UPDATE batch SET status = 'running', attempts = attempts + 1, owner = 'bench', lease_until = {_NOW} + 60,
        started_at = {_NOW} WHERE id = :id AND status = 'queued'
        AND EXISTS (SELECT 1 FROM run WHERE run.id = batch.run_id AND run.state = 'open')""",
    "SELECT position, uri FROM run_image WHERE batch_id = :id AND status = 'pending' ORDER BY position",
)
_COMPLETE = (
    f"""UPDATE batch SET status = 'done', owner = NULL, lease_until = NULL, finished_at = {_NOW}, tagged = {BATCH},
        inferences = {BATCH} WHERE id = :id AND owner = 'bench'""",
    f"""INSERT INTO image SELECT {_SHA256.format(number="image_key")}, 800, 600, 'JPEG', 88000
        FROM run_image WHERE batch_id = :id ORDER BY 1 ON CONFLICT DO NOTHING""",
    f"""INSERT INTO inference (image_sha256, model_sha256, batch_id, provider, worker, created_at)
        SELECT {_SHA256.format(number="image_key")}, '{_MODEL}', :id, 'CPUExecutionProvider', 'host:live', {_NOW}
        FROM run_image WHERE batch_id = :id ORDER BY 1 ON CONFLICT DO NOTHING""",
    f"""INSERT INTO label SELECT inference.id, rank, 'label ' || rank, 0.5 / rank
        FROM run_image JOIN inference ON image_sha256 = {_SHA256.format(number="image_key")},
        generate_series(1, {LABELS}) AS rank WHERE run_image.batch_id = :id""",
    f"""UPDATE run_image SET status = 'tagged', sha256 = {_SHA256.format(number="image_key")} WHERE batch_id = :id""",
)
_BYTES = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200"
_COUNTS = {
    "labels in the catalog": ("SELECT count(*) FROM catalog_labels",) * 2,
    "tagged": ("SELECT count(*) FROM run_image WHERE status = 'tagged'", "SELECT count(*) FROM tagged_entry"),
    "entries": ("SELECT count(*) FROM run_image", "SELECT count(*) FROM entry"),
    "results": ("SELECT count(*) FROM inference", "SELECT count(*) FROM result"),
    "files": ("SELECT count(*) FROM file_seen", "SELECT count(*) FROM known_file"),
}


@dataclass
class Measured:
    """The results of one upgrade. Times are in seconds."""

    images: int
    runs: int
    masks: int
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    chunks: int = 0
    chunk_median: float = 0.0
    chunk_longest: float = 0.0
    final: float = 0.0
    #: transactions of the worker before and during the upgrade, without those that were refused
    claims: int = 0
    before: dict[str, float] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)
    median: dict[str, float] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_after: int = 0


def build(engine: Engine, images: int, runs: int, masks: int) -> None:
    """Fill a database of schema 0004."""
    migrate(engine, "0004")
    words = {"batch": BATCH, "labels": LABELS, "words": WORDS, "live": LIVE_BATCHES, "model": _MODEL}
    with engine.begin() as connection:
        # Foreign keys hold by construction: checking them takes longer than the rest.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("CREATE TEMPORARY TABLE rles (id int PRIMARY KEY, rle text)"))
        lengths = [{"id": number, "rle": rle} for number, rle in enumerate(run_lengths())]
        connection.execute(text("INSERT INTO rles VALUES (:id, :rle)"), lengths)
        for statement in _FILL:
            sized = statement.format(sha256=_SHA256.format(number="number"), **words)
            connection.execute(text(sized), {"images": images, "runs": runs, "masks": masks})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


class Worker(threading.Thread):
    """Claims and completes batches as the version before does, until the database refuses."""

    def __init__(self, engine: Engine, ids: list[int]) -> None:
        super().__init__()
        self._engine, self._ids = engine, ids
        self.times: dict[str, list[float]] = {"claim": [], "complete": []}
        self.refused = ""

    def run(self) -> None:
        try:
            for batch in self._ids:
                self.work(batch)
                time.sleep(0.02)
        except DBAPIError as error:
            self.refused = str(error.orig).splitlines()[0]

    def work(self, batch: int) -> None:
        """Claim and complete one batch."""
        for name, statements in (("claim", _CLAIM), ("complete", _COMPLETE)):
            began = time.perf_counter()
            with self._engine.begin() as connection:
                for statement in statements:
                    connection.execute(text(statement), {"id": batch})
            self.times[name].append(time.perf_counter() - began)


class Transactions:
    """The times of an engine's transactions that were committed."""

    def __init__(self, engine: Engine) -> None:
        self.seconds: list[float] = []
        #: when the last one began
        self.began = 0.0
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "commit", self._commit)

    def _begin(self, connection: Connection) -> None:
        self.began = time.perf_counter()

    def _commit(self, connection: Connection) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def measure(url: str, images: int, runs: int, masks: int) -> Measured:
    """Build a database and upgrade it."""
    found = Measured(images // BATCH * BATCH, runs, masks)
    engine, own = connect(url), connect(url)
    began = time.perf_counter()
    build(own, found.images, runs, masks)
    print(f"built in {time.perf_counter() - began:.0f} s", flush=True)
    with own.connect() as connection:
        found.bytes_before = int(connection.execute(text(_BYTES)).scalar_one())
        before = {name: connection.execute(text(pair[0])).scalar_one() for name, pair in _COUNTS.items()}
        live = "SELECT id FROM batch WHERE status = 'queued' ORDER BY id"
        ids = list(connection.execute(text(live)).scalars())
    warm = Worker(own, [])
    for batch in ids[:200]:
        warm.work(batch)
    found.before = {name: statistics.median(times) for name, times in warm.times.items()}
    worker, transactions = Worker(own, ids[200:]), Transactions(engine)
    stages: list[tuple[str, float]] = []
    worker.start()
    began = time.perf_counter()

    def report(progress: Progress) -> None:
        if not stages or stages[-1][0] != progress.stage:
            stages.append((progress.stage, time.perf_counter()))
            print(f"{progress.stage}: {time.perf_counter() - began:.0f} s", flush=True)

    upgrade(engine, report)
    ended = time.perf_counter()
    worker.join()
    print(f"the worker was refused: {worker.refused}", flush=True)
    found.seconds = ended - began
    ends = [at for _, at in stages[1:]] + [ended]
    found.stages = {name: end - at for (name, at), end in zip(stages, ends, strict=True)}
    *chunks, _ = transactions.seconds
    found.final = ended - transactions.began  # with the commit, which deletes the files of the old tables
    found.chunks, found.chunk_median, found.chunk_longest = len(chunks), statistics.median(chunks), max(chunks)
    found.claims = len(worker.times["claim"])
    found.longest = {name: max(times) for name, times in worker.times.items()}
    found.median = {name: statistics.median(times) for name, times in worker.times.items()}
    completed = len(warm.times["complete"]) + len(worker.times["complete"])
    with own.connect() as connection:
        found.bytes_after = int(connection.execute(text(_BYTES)).scalar_one())
        after = {name: connection.execute(text(pair[1])).scalar_one() for name, pair in _COUNTS.items()}
    new = {"labels in the catalog": LABELS, "tagged": 1, "results": 1}
    for name, count in before.items():
        if after[name] != count + new.get(name, 0) * BATCH * completed:
            raise RuntimeError(f"{name}: {count} before, {after[name]} after, {completed} batches completed meanwhile")
    engine.dispose()
    own.dispose()
    return found


def line(found: Measured) -> str:
    """Return one line of the table."""
    waits = ", ".join(f"{1000 * found.longest[name]:.0f}" for name in ("claim", "complete"))
    usual = ", ".join(f"{1000 * found.before[name]:.0f}" for name in ("claim", "complete"))
    cells = (
        f"{found.images:,} | {found.runs} | {found.masks} | {found.seconds / 60:.1f}",
        f"{found.chunks:,} | {found.chunk_median:.2f}, {found.chunk_longest:.2f} | {found.final:.2f}",
        f"{found.claims:,} | {usual} | {waits}",
        f"{found.bytes_before / 1e6:,.0f} | {found.bytes_after / 1e6:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| images | runs | masks an image | upgrade, minutes | chunks | a chunk, s: median, longest | final transaction, s "
    "| batches completed meanwhile | claim, complete, ms: usual | longest | SQL before, MB | after, MB |"
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="images of the catalog")
    parser.add_argument("--runs", type=int, default=1, help="runs over the catalog")
    parser.add_argument("--masks", type=int, default=0, help="masks per image")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    with PostgresServer() as server:
        print(
            f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, psycopg {psycopg.__version__}, "
            f"PostgreSQL {server.version}",
            flush=True,
        )
        found = measure(create_database(server.url), options.images, options.runs, options.masks)
    print(json.dumps(asdict(found), indent=2))
    print(f"{HEADER}\n|{'---|' * HEADER.count(' | ')}---|\n{line(found)}")
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()

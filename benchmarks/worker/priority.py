"""Measure how soon an urgent run starts while a long backfill waits in the queue and a worker is busy with it.

`PYTHONPATH=tests python -m benchmarks.worker.priority --rows 1000000 [--json FILE]` starts its own PostgreSQL and
Redis. It fills SQL with a backfill, publishes it, and starts `tagmill worker start` with the starter classifier. Once
the worker is busy, it calls `tagmill submit --priority urgent` with 64 photos of 800x800 that nobody has tagged,
`--times` times.

The entries of the backfill are `--photos` photos, over and over. Seconds are from the start of the command to the first
row in SQL. Most of that is the command's start, and the batches that the worker has in hand.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Engine, text
from support.processes import Worker, environment, tagmill, tagmill_json, wait_until, waiting
from support.services import PostgresServer, RedisServer, create_database

from benchmarks.support.catalogs import write_set
from benchmarks.support.machine import machine, tell
from producer.publish import publish_run
from tagmill.broker.app import make_app
from tagmill.db.connection import connect
from tagmill.settings import Settings

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "starter" / "classifier.onnx"
#: images of the urgent run, and of a batch
URGENT = 64
_RUN = """
INSERT INTO run (source, parameters, queue, priority, state, created_at, publish_until)
VALUES ('backfill', json_build_object('batch_size', CAST(:size AS int), 'roots', json_build_array(CAST(:root AS text))),
    'tagmill', 9, 'open', extract(epoch FROM now()), extract(epoch FROM now()) + 3600) RETURNING id
"""
_FILL = (
    "INSERT INTO run_model (run_id, model_id) SELECT :run, id FROM model",
    """INSERT INTO entry (run_id, position, image_key, uri)
    SELECT :run, n, 'sku-' || lpad(n::text, 9, '0'), :root || '/' || lpad((n % :photos)::text, 6, '0') || '.jpg'
    FROM generate_series(0, :rows - 1) AS n""",
    """INSERT INTO batch (run_id, seq, queue, priority, status, attempts, first_position, last_position, images)
    SELECT :run, seq, 'tagmill', 9, 'queued', 0, seq * :size, least((seq + 1) * :size, :rows) - 1,
        least(:size, :rows - seq * :size)
    FROM generate_series(0, (:rows + :size - 1) / :size - 1) AS seq""",
)
_TIMES = """
SELECT min(published_at) AS published, min(started_at) AS started, min(finished_at) AS finished FROM batch
WHERE run_id = :run
"""


@dataclass(frozen=True)
class Measured:
    """One urgent run. Times are in seconds."""

    #: messages of the backfill that waited
    waiting: int
    #: from the start of the command to the first row in SQL
    first_row: float
    #: parts of it: the command until it has published, until a worker has claimed the batch, and until it is in SQL
    command: float
    claim: float
    work: float


def fill(engine: Engine, folder: Path, rows: int, size: int, photos: int) -> int:
    """Write a backfill to SQL; return its run."""
    with engine.begin() as connection:
        run = int(connection.execute(text(_RUN), {"size": size, "root": str(folder)}).scalar_one())
        values = {"run": run, "rows": rows, "size": size, "photos": photos, "root": str(folder)}
        for statement in _FILL:
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), wanted)
    return run


def urgent_run(engine: Engine, env: dict[str, str], photos: Sequence[Path], left: int) -> Measured:
    """Submit these photos as an urgent run, and return what was measured when its first row is in SQL."""
    manifest = photos[0].parent / "urgent.csv"
    manifest.write_text("image_key,uri\n" + "".join(f"urgent-{path.stem},{path}\n" for path in photos))
    began = time.time()
    run = int(tagmill_json("submit", manifest, "--model", "clothing", "--priority", "urgent", env=env)["run"])
    while True:
        with engine.connect() as connection:
            found = connection.execute(text(_TIMES), {"run": run}).one()
        if found.finished is not None:
            break
        time.sleep(0.01)
    first_row = found.finished - began
    parts = (found.published - began, found.started - found.published, found.finished - found.started)
    return Measured(left, first_row, *parts)


def measure(rows: int, size: int, photos: int, times: int) -> list[Measured]:
    """Fill a queue, start a worker, and measure urgent runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, redis = stack.enter_context(PostgresServer()), stack.enter_context(RedisServer())
        url = create_database(server.url)
        env = environment(
            database_url=url, broker_url=redis.url, model_store=folder / "models", cache_folder=folder / "c"
        )
        tell(f"PostgreSQL {server.version}; writing {photos + times * URGENT} photos")
        paths = write_set("photos", folder, photos + times * URGENT)
        tagmill("db", "upgrade", env=env)
        tagmill("model", "add", BUNDLE, "--name", "clothing", env=env)
        engine, app = connect(url), make_app(Settings(broker_url=redis.url))
        stack.callback(engine.dispose)
        backfill = fill(engine, paths[0].parent, rows, size, photos)
        tell(f"{rows:,} rows are in SQL; publishing")
        tell(f"{publish_run(app, engine, backfill):,} messages wait")
        done = text("SELECT count(*) FROM batch WHERE run_id = :run AND status = 'done'")

        def at_work() -> bool:
            with engine.connect() as connection:
                return int(connection.execute(done, {"run": backfill}).scalar_one()) >= 3

        stack.enter_context(Worker(env, folder / "worker.log"))
        wait_until(at_work, 300, "the worker to be busy")
        found = []
        for number in range(times):
            start = photos + number * URGENT
            found.append(urgent_run(engine, env, paths[start : start + URGENT], waiting(app, "tagmill", 9)))
            tell(f"first row after {found[-1].first_row:.2f} s")
        return found


def table(rows: int, size: int, found: Sequence[Measured]) -> str:
    """Return the results as a table: the median and the longest."""
    messages = min(one.waiting for one in found)
    head = f"{rows:,} rows in batches of {size} wait, at least {messages:,} messages"
    lines = [f"| {head} | median, s | longest, s |", "|---|---|---|"]
    names = {
        "first_row": "from the start of `tagmill submit` to the first row in SQL",
        "command": "of that: until the batch is published",
        "claim": "until a worker has claimed it",
        "work": "until its 64 images are tagged and in SQL",
    }
    for name, words in names.items():
        seconds = [asdict(one)[name] for one in found]
        lines.append(f"| {words} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="entries of the backfill")
    parser.add_argument("--batch-size", type=int, default=64, help="entries of one of its messages")
    parser.add_argument("--photos", type=int, default=1000, help="distinct images of the backfill")
    parser.add_argument("--times", type=int, default=5, help="urgent runs")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    print(machine(), flush=True)
    found = measure(options.rows, options.batch_size, options.photos, options.times)
    print(table(options.rows, options.batch_size, found))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


if __name__ == "__main__":
    main()

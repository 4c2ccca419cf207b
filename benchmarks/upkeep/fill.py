"""Fill a PostgreSQL with a catalog that two runs tagged, thousands of small runs, and a queue; copy it to SQLite.

The first run tagged all keys, and ended 100 days ago. The second one replaced its entries; every other image had new
bytes. So a prune of 90 days deletes the first run and half as many images as the catalog has keys. Another version of
the model has a result of each image, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, insert, select, text
from support.filled import add_run, add_tagged_run, publish

from tagmill.bundles.metadata import BundleSpec
from tagmill.db.schema import metadata, result
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

BATCH = 64
#: small runs, every tenth of which is old
SMALL_RUNS, SMALL_IMAGES = 10_000, 64
AGED = "- 100 * 86400"

#: what differs between the results of the two versions: they agree on nine images of ten
_DIFFERENT = {"model_id": ":second", "label_1": "CASE WHEN image_id % 10 = 0 THEN label_2 ELSE label_1 END"}
_COLUMNS = [found.name for found in result.columns]
_OF_SECOND = (
    f"INSERT INTO result ({', '.join(_COLUMNS)}) "
    f"SELECT {', '.join(_DIFFERENT.get(name, name) for name in _COLUMNS)} FROM result WHERE model_id = :first"
)
_AGE = (
    f"UPDATE run SET created_at = created_at {AGED} WHERE id = :run",
    f"UPDATE batch SET started_at = started_at {AGED}, finished_at = finished_at {AGED} WHERE run_id = :run",
)
# They tagged images that the second run made.
_SMALL = (
    """INSERT INTO run (source, parameters, queue, state, created_at)
       SELECT 'small ' || n, '{"batch_size": 64, "roots": ["/pictures"]}', 'tagmill', 'open',
           extract(epoch FROM now()) - CASE WHEN n % 10 = 0 THEN 100 ELSE 1 END * 86400
       FROM generate_series(1, :runs) AS n""",
    "INSERT INTO run_model (run_id, model_id) SELECT id, :first FROM run WHERE source LIKE 'small %'",
    """INSERT INTO batch (run_id, seq, queue, status, attempts, published_at, started_at, finished_at, first_position,
           last_position, images, tagged, inferences)
       SELECT id, 0, queue, 'done', 1, created_at, created_at, created_at + 1, 0, :images - 1, :images, :images, 0
       FROM run WHERE source LIKE 'small %'""",
    """INSERT INTO batch_outcome (batch_id, image_ids)
       SELECT batch.id, (SELECT array_agg(:keys + 1 + (run.id * 977 + place) % (:keys / 2))
                         FROM generate_series(1, :images) AS place)
       FROM batch JOIN run ON run.id = batch.run_id WHERE source LIKE 'small %'""",
    """INSERT INTO entry (run_id, position, image_key, uri)
       SELECT run.id, place - 1, 'small-' || (run.id * 977 + place) % :keys, '/pictures/' || place || '.jpg'
       FROM run, generate_series(1, :images) AS place WHERE source LIKE 'small %'""",
    """INSERT INTO audit_event (at, action, user_name, host, run_id, details)
       SELECT created_at, 'submit', 'nightly', 'ingest-1', id, '{"images": 64}' FROM run""",
)


@dataclass(frozen=True)
class Filled:
    """What a database was filled with."""

    first: Model
    second: Model
    keys: int
    #: that both versions have a result of
    images: int
    #: the run whose batches wait
    waiting: int


#: indexes that are no constraints; made at the end, they take a fraction of the time
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY (:tables)
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)
"""
_FILLED = ["image_content", "result", "catalog_entry", "further_label"]


def fill(engine: Engine, keys: int, small_runs: int = SMALL_RUNS) -> Filled:
    """Fill an empty database with a catalog of that many keys, and a queue as large."""
    spec = BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
    first = register(engine, spec, "1" * 64)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        indexes = connection.execute(text(_INDEXES), {"tables": _FILLED}).all()
        for index in indexes:
            connection.execute(text(f"DROP INDEX {index.indexname}"))
        old = add_tagged_run(connection, first, keys, BATCH, failing=keys + 1, masks=0)
        add_tagged_run(connection, first, keys, BATCH, changed=2, failing=keys + 1, masks=0)
        for statement in _AGE:
            connection.execute(text(statement), {"run": old.id})
        for statement in _SMALL:
            asked = {"runs": small_runs, "images": SMALL_IMAGES, "keys": keys, "first": first.id}
            connection.execute(text(statement), {name: asked[name] for name in asked if f":{name}" in statement})
        second = register(engine, spec, "2" * 64)
        connection.execute(text(_OF_SECOND), {"first": first.id, "second": second.id})
        for index in indexes:
            connection.execute(text(index.indexdef))
        waiting = add_run(connection, first, keys, BATCH)
        publish(connection, waiting)
        connection.execute(text("VACUUM ANALYZE"))
        images = connection.execute(text("SELECT count(*) FROM image_content")).scalar_one()
    return Filled(first, second, keys, images, waiting.id)


def copy(source: Engine, target: Engine) -> None:
    """Copy all rows into the tables of another database, in the place of what an upgrade puts there."""
    with source.connect().execution_options(stream_results=True, yield_per=5_000) as reader, target.begin() as writer:
        for table in metadata.sorted_tables:
            writer.execute(delete(table))
            for rows in _pages(reader, table):
                writer.execute(insert(table), rows)


def _pages(connection: Connection, table) -> Iterator[list[dict]]:
    for rows in connection.execute(select(table)).mappings().partitions():
        yield [dict(row) for row in rows]

"""Fill the tables of a PostgreSQL database with as many rows as a large catalog has, in seconds: by INSERT ... SELECT.

The rows are those that `tagmill.ledger` writes. Key number N of a catalog is at position N - 1 of each run.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Double, Engine, Integer, String, bindparam, text

from tagmill.db.schema import metadata
from tagmill.ledger import catalog
from tagmill.registry.models import Model

QUEUE = "tagmill"
#: different labels, which are about equally frequent
LABELS = 40

_RUN = """
INSERT INTO run (source, parameters, queue, state, created_at)
VALUES ('filled', '{"batch_size": :size, "roots": ["/pictures"]}', :queue, 'open', extract(epoch FROM now()))
RETURNING id
"""
_PINNED = "INSERT INTO run_model (run_id, model_id) VALUES (:run, :model)"
_ENTRIES = """
INSERT INTO entry (run_id, position, image_key, uri)
SELECT :run, n - 1, 'sku-' || lpad(n::text, 9, '0'), '/pictures/' || n % 1000 || '/' || n || '.jpg'
FROM generate_series(1, :images) AS n
"""
_BATCHES = """
INSERT INTO batch (run_id, seq, queue, status, attempts, first_position, last_position, images)
SELECT :run, seq, :queue, 'queued', 0, seq * :size, least((seq + 1) * :size, :images) - 1,
    least(:size, :images - seq * :size)
FROM generate_series(0, (:images + :size - 1) / :size - 1) AS seq
"""
_DONE_BATCHES = """
INSERT INTO batch (run_id, seq, queue, status, attempts, published_at, started_at, finished_at, first_position,
    last_position, images, tagged, inferences)
SELECT :run, seq, :queue, 'done', 1, now.seconds, now.seconds + seq * 0.01, now.seconds + seq * 0.01 + 0.3,
    seq * :size, least((seq + 1) * :size, :images) - 1, least(:size, :images - seq * :size),
    least(:size, :images - seq * :size), :size
FROM generate_series(0, (:images + :size - 1) / :size - 1) AS seq, (SELECT extract(epoch FROM now()) AS seconds) AS now
"""
_NAMES = "INSERT INTO {table} (name) SELECT '{table} ' || n FROM generate_series(1, :names) AS n ON CONFLICT DO NOTHING"

# The numbers of a run's keys and their images, kept while the connection is open.
_SHOWN = "CREATE TEMPORARY TABLE IF NOT EXISTS filled_image (n int PRIMARY KEY, image_id bigint, made_by int)"
_NEW_SHOWN = """
INSERT INTO filled_image
SELECT n, (SELECT coalesce(max(id), 0) FROM image_content) + row_number() OVER (ORDER BY n), :run
FROM generate_series(1, :images) AS n WHERE :every = 1 OR (n + 17 * :run) % :every = 0
ON CONFLICT (n) DO UPDATE SET image_id = excluded.image_id, made_by = excluded.made_by
"""
_IMAGES = """
INSERT INTO image_content (id, bytes, width, height, format, sha256)
SELECT image_id, 100000 + n, 800, 800, 'JPEG', sha256(int8send(image_id)) FROM filled_image WHERE made_by = :run
ORDER BY image_id
"""
_IMAGE_SEQUENCE = "SELECT setval(pg_get_serial_sequence('image_content', 'id'), (SELECT max(id) FROM image_content))"
#: the label of an image at a rank, and a number from 0 to 1 for its score; both look random
_LABEL = f"1 + (image_id * 7919 + {{rank}} * 104729) % {LABELS}"
_RANDOM = "((image_id * 2654435761 + {rank} * 40503) % 10007) / 10007.0"
_FIRST_SCORE = f"0.4 + 0.6 * {_RANDOM.format(rank=1)}"
_OTHER_SCORES = ", ".join(f"0.9 / {rank} * {_RANDOM.format(rank=rank)}" for rank in range(2, 6))
_RESULTS = f"""
INSERT INTO result (image_id, model_id, provider_id, batch_id, created_at, worker_id,
    label_1, label_2, label_3, label_4, label_5, score_1, score_2, score_3, score_4, score_5)
SELECT image_id, :model, 1, :first_batch + (n - 1) / :size, extract(epoch FROM now()), 1,
    {", ".join(_LABEL.format(rank=rank) for rank in range(1, 6))}, {_FIRST_SCORE}, {_OTHER_SCORES}
FROM filled_image WHERE made_by = :run ORDER BY image_id
"""
_FURTHER = f"""
INSERT INTO further_label (image_id, model_id, rank, label_id, score)
SELECT image_id, :model, 6, {_LABEL.format(rank=6)}, 0.05 FROM filled_image
WHERE made_by = :run AND n % 10 = 0 ORDER BY image_id
"""
_MASKS = """
INSERT INTO result_mask (image_id, area_share, box_left, box_top, box_right, box_bottom, score, model_id, label_id,
    height, width, rle)
SELECT image_id, 0.25, 0, 0, 400, 400, 0.9, :model, label, 256, 256, '\\x00112233445566778899'
FROM filled_image, generate_series(1, :masks) AS label WHERE made_by = :run ORDER BY image_id
"""
_FILES = """
INSERT INTO known_file (identity, image_id)
SELECT md5('file ' || image_id)::uuid, image_id FROM filled_image WHERE made_by = :run
"""
_URLS = """
INSERT INTO known_url (location, image_id, etag)
SELECT md5('url ' || image_id)::uuid, image_id, '"' || image_id || '"' FROM filled_image WHERE made_by = :run
"""
_OUTCOMES = """
INSERT INTO batch_outcome (batch_id, image_ids)
SELECT :first_batch + (n - 1) / :size, array_agg(CASE WHEN n % :failing > 0 THEN image_id END ORDER BY n)
FROM filled_image WHERE n <= :images GROUP BY 1
"""
_FAILURES = """
INSERT INTO image_failure (run_id, position, batch_id, error_code, error_detail)
SELECT :run, n - 1, :first_batch + (n - 1) / :size, 'corrupt', 'no image'
FROM generate_series(:failing, :images, :failing) AS n
"""
_FAILURE_COUNTS = """
INSERT INTO batch_failure (run_id, batch_id, error_code, images)
SELECT run_id, batch_id, error_code, count(*) FROM image_failure WHERE run_id = :run GROUP BY 1, 2, 3
"""
_DONE = """
UPDATE batch SET status = 'done', attempts = 1, published_at = now.seconds, started_at = now.seconds + seq * 0.1,
    finished_at = now.seconds + seq * 0.1 + 0.3, inferences = made.results,
    tagged = batch.images - coalesce((SELECT sum(failed.images) FROM batch_failure AS failed
                                WHERE failed.run_id = batch.run_id AND failed.batch_id = batch.id), 0)
FROM (SELECT extract(epoch FROM now()) AS seconds) AS now,
    (SELECT (n - 1) / :size AS of_seq, count(*) FILTER (WHERE made_by = :run) AS results
     FROM filled_image GROUP BY 1) AS made
WHERE run_id = :run AND of_seq = seq
"""
_CATALOG = f"""
INSERT INTO catalog_entry (image_key, position, image_id, name_id, place, model_id, run_id, changed_at)
SELECT 'sku-' || lpad(n::text, 9, '0'), n - 1, image_id, :name, 0, :model, :run, ceil(extract(epoch FROM now()))
FROM filled_image WHERE n <= :images AND n % :failing > 0 ORDER BY n
{catalog.REPLACE}
"""

# Two entries share a location.
_REPEATED = """
INSERT INTO repeated_entry (run_id, position, first_position)
SELECT :run, n, n - 1 FROM generate_series(1, :images - 1, 2) AS n
"""
_REPEATED_IMAGES = """
INSERT INTO repeated_image (run_id, first_position, image_id)
SELECT run_id, position, image_id FROM tagged_entry WHERE run_id = :run AND position % 2 = 0
"""


@dataclass(frozen=True)
class FilledRun:
    """A run and its batches, whose ids follow each other."""

    id: int
    first_batch: int
    batches: int


def without_autovacuum(engine: Engine) -> None:
    """Keep the statistics of all tables as they are until the next ANALYZE."""
    with engine.begin() as connection:
        for table in metadata.tables:
            connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = false)"))


def add_run(connection: Connection, model: Model, images: int, batch_size: int, queue: str = QUEUE) -> FilledRun:
    """Add a run as `create_run` does, none of whose batches is published."""
    run_id = int(_run(connection, _RUN.replace(":size", str(batch_size)), queue=queue).scalar_one())
    _run(connection, _PINNED, run=run_id, model=model.id)
    _run(connection, _ENTRIES, run=run_id, images=images)
    _run(connection, _BATCHES, run=run_id, images=images, size=batch_size, queue=queue)
    ids = _run(connection, "SELECT min(id), count(*) FROM batch WHERE run_id = :run", run=run_id).one()
    return FilledRun(run_id, *ids)


def add_tagged_run(
    connection: Connection,
    model: Model,
    images: int,
    batch_size: int = 64,
    *,
    changed: int = 1,
    failing: int = 100,
    masks: int = 1,
) -> FilledRun:
    """Add a run that is done. Each `failing`th image of it failed, the others were tagged.

    Each `changed`th image has other bytes than in the run before, which was added by the same connection.
    """
    for table in ("label_name", "provider", "worker"):
        _run(connection, _NAMES.format(table=table), names=LABELS)
    found = add_run(connection, model, images, batch_size)
    _run(connection, _SHOWN)
    statements = [_NEW_SHOWN, _IMAGES, _IMAGE_SEQUENCE, _RESULTS, _FURTHER, _MASKS, _FILES, _URLS, _OUTCOMES]
    statements += [_FAILURES, _FAILURE_COUNTS, _DONE, _CATALOG]
    values = {"run": found.id, "first_batch": found.first_batch, "images": images, "size": batch_size}
    values |= {"model": model.id, "name": model.id, "every": changed, "failing": failing, "masks": masks}
    for statement in statements:
        _run(connection, statement, **values)
    return found


def add_repeats(connection: Connection, run: FilledRun, images: int) -> None:
    """Add what `create_run` and workers store for a run in which two entries share each location."""
    for statement in (_REPEATED, _REPEATED_IMAGES):
        _run(connection, statement, run=run.id, images=images)


def add_counts(connection: Connection, model: Model, images: int, batch_size: int, queue: str = QUEUE) -> int:
    """Add a run that is done, with its batches and nothing else: what `tagmill run status` reads. Return its id."""
    run_id = int(_run(connection, _RUN.replace(":size", str(batch_size)), queue=queue).scalar_one())
    _run(connection, _PINNED, run=run_id, model=model.id)
    _run(connection, _DONE_BATCHES, run=run_id, images=images, size=batch_size, queue=queue)
    return run_id


def publish(connection: Connection, run: FilledRun, seconds_ago: float = 0.0) -> None:
    """Mark all batches of a run as published."""
    published = "UPDATE batch SET published_at = extract(epoch FROM now()) - :ago WHERE run_id = :run"
    _run(connection, published, run=run.id, ago=seconds_ago)


def _run(connection: Connection, statement: str, **values: float | str) -> Any:
    """Run a statement with those of the values that it names."""
    # psycopg's own type of an integer depends on its size, and then PostgreSQL's choice of a function does.
    types = {int: Integer(), float: Double(), str: String()}
    wanted = [bindparam(name, value, types[type(value)]) for name, value in values.items() if f":{name}" in statement]
    return connection.execute(text(statement).bindparams(*wanted))

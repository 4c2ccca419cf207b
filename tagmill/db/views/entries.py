"""The SQL of the views of entries: which image each has, and what became of it."""

from collections.abc import Iterator

#: in the order in which they can be dropped
ENTRY_VIEWS = ("run_image", "tagged_entry")

_TAGGED_POSTGRESQL = """
CREATE VIEW tagged_entry AS
SELECT batch.run_id, coalesce(batch.positions[found.number], batch.first_position + found.number - 1)::int AS position,
    found.image_id
FROM batch
JOIN batch_outcome ON batch_outcome.batch_id = batch.id
CROSS JOIN LATERAL unnest(batch_outcome.image_ids) WITH ORDINALITY AS found (image_id, number)
WHERE found.image_id IS NOT NULL
"""
_TAGGED_SQLITE = """
CREATE VIEW tagged_entry AS
SELECT batch.run_id,
    coalesce(json_extract(batch.positions, '$[' || found.key || ']'), batch.first_position + found.key) AS position,
    found.value AS image_id
FROM batch
JOIN batch_outcome ON batch_outcome.batch_id = batch.id
JOIN json_each(batch_outcome.image_ids) AS found
WHERE found.value IS NOT NULL
"""
_RUN_IMAGE = """
CREATE VIEW run_image AS
SELECT entry.run_id, entry.position, entry.image_key, entry.uri, {sha256} AS sha256,
    CASE WHEN tagged.image_id IS NOT NULL THEN 'tagged' WHEN failure.position IS NOT NULL THEN 'failed'
         ELSE 'pending' END AS status,
    failure.error_code, failure.error_detail, {extra} AS extra
FROM entry
LEFT JOIN tagged_entry AS tagged ON tagged.run_id = entry.run_id AND tagged.position = entry.position
LEFT JOIN image_failure AS failure ON failure.run_id = entry.run_id AND failure.position = entry.position
LEFT JOIN image_content ON image_content.id = tagged.image_id
"""


def create_statements(dialect: str, sha256: str) -> Iterator[str]:
    """Yield the statements that create the views, for PostgreSQL or SQLite; `sha256` makes a hash text."""
    postgresql = dialect == "postgresql"
    yield _TAGGED_POSTGRESQL if postgresql else _TAGGED_SQLITE
    yield _RUN_IMAGE.format(sha256=sha256, extra="entry.extra::json" if postgresql else "entry.extra")

"""The SQL of the views that people read: names and hashes as text, one row per label, mask or entry."""

from collections.abc import Iterator

from tagmill.db import picture_views, rle_code, run_views, shown_views
from tagmill.db.schema import LABELS

#: every view, in the order in which they can be dropped
VIEWS = (
    *picture_views.PICTURE_VIEWS,
    *run_views.RUN_VIEWS,
    "model_production",
    "audit_log",
    "run_drift",
    "catalog_duplicates",
    "run_duplicates",
    "catalog_embeddings",
    "catalog_changes",
    "catalog_masks",
    "catalog_labels",
    *shown_views.SHOWN_VIEWS,
    "run_image",
    "run_cost",
    "tagged_entry",
    "result_label",
)

#: What `tagmill.db.rle_code` packed, as text.
_RLE_FUNCTION = """
CREATE OR REPLACE FUNCTION tagmill_rle(packed bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(string_agg('{codes}'::jsonb ->> code[1], '' ORDER BY number), '')
    FROM regexp_matches(('x' || encode(packed, 'hex'))::varbit::text, '{pattern}', 'g')
        WITH ORDINALITY AS found (code, number)
$$
"""

_LABEL_OF_RANK = """
SELECT image_id, model_id, {rank} AS rank, label_{rank} AS label_id, score_{rank} AS score FROM result
"""
_FURTHER_LABELS = "SELECT image_id, model_id, rank, label_id, score FROM further_label"

# Every part of a UNION ALL has a single table and no condition: PostgreSQL then looks each part up by the index that
# fits, whatever the query asks for.
_RESULT_LABEL = "CREATE VIEW result_label AS {parts}"

_SHOWN = """
    shown.image_key,
    (SELECT entry.uri FROM entry WHERE entry.run_id = shown.run_id AND entry.position = shown.position) AS uri,
    shown.run_id,
    (SELECT {sha256} FROM image_content WHERE image_content.id = shown.image_id) AS sha256,
    model.name AS model, model.version
"""
_TAGGED_AT = """
    (SELECT result.created_at FROM result
     WHERE result.image_id = shown.image_id AND result.model_id = shown.model_id) AS tagged_at
"""
_LABELS = """
SELECT {shown}, found.rank, label_name.name AS label, found.score, {tagged_at}
FROM shown_entry AS shown
JOIN model ON model.id = shown.model_id
JOIN {labels} AS found ON found.image_id = shown.image_id AND found.model_id = shown.model_id
JOIN label_name ON label_name.id = found.label_id
"""
_MASKS = """
CREATE VIEW catalog_masks AS
SELECT {shown}, label_name.name AS label, found.score, found.area_share,
    found.box_left, found.box_top, found.box_right, found.box_bottom, {rle} AS rle, found.height, found.width,
    {tagged_at}
FROM shown_entry AS shown
JOIN model ON model.id = shown.model_id
JOIN result_mask AS found ON found.image_id = shown.image_id AND found.model_id = shown.model_id
JOIN label_name ON label_name.id = found.label_id
"""
_CHANGES = """
CREATE VIEW catalog_changes AS
SELECT shown.image_key, model.name AS model, model.version, shown.run_id, shown.changed_at
FROM shown_change AS shown
JOIN model ON model.id = shown.model_id
"""
# For joins; `tagmill similar` reads the table, whose index an order by this column can use, too.
_EMBEDDINGS = """
CREATE VIEW catalog_embeddings AS
SELECT shown.image_key, shown.run_id, model.name AS model, model.version, model.id AS model_id, found.image_id,
    found.vector AS embedding
FROM shown_entry AS shown
JOIN model ON model.id = shown.model_id
JOIN embedding AS found ON found.image_id = shown.image_id AND found.model_id = shown.model_id
"""

# Of an image that several keys or entries show, all but the first one show the same bytes.
_DUPLICATE = """
    CASE WHEN found.kind = 'first' AND found.number > 1 THEN 'bytes' ELSE found.kind END AS kind,
    CASE WHEN found.kind = 'first' AND found.number > 1 THEN 0 ELSE found.distance END AS distance,
    CASE WHEN found.kind = 'first' AND found.number > 1 THEN 1.0 ELSE found.similarity END AS similarity,
    (SELECT {sha256} FROM image_content WHERE image_content.id = found.image_id) AS sha256, found.found_at
"""
_CATALOG_DUPLICATES = f"""
CREATE VIEW catalog_duplicates AS
SELECT found.group_id, found.image_key,
    (SELECT entry.uri FROM catalog_entry AS shown
     JOIN entry ON entry.run_id = shown.run_id AND entry.position = shown.position
     WHERE shown.image_key = found.image_key AND shown.image_id = found.image_id LIMIT 1) AS uri,
    {_DUPLICATE}
FROM (
    SELECT DISTINCT duplicate_image.*, shown.image_key,
        dense_rank() OVER (PARTITION BY group_id, duplicate_image.image_id ORDER BY shown.image_key) AS number
    FROM duplicate_image
    JOIN catalog_entry AS shown ON shown.image_id = duplicate_image.image_id
    WHERE duplicate_image.run_id = 0
) AS found
"""
_RUN_DUPLICATES = f"""
CREATE VIEW run_duplicates AS
SELECT found.run_id, found.group_id, entry.image_key, entry.uri, {_DUPLICATE}
FROM (
    SELECT duplicate_image.*, tagged.position,
        row_number() OVER (
            PARTITION BY duplicate_image.run_id, group_id, duplicate_image.image_id ORDER BY tagged.position
        ) AS number
    FROM duplicate_image
    JOIN tagged_entry AS tagged
        ON tagged.run_id = duplicate_image.run_id AND tagged.image_id = duplicate_image.image_id
) AS found
JOIN entry ON entry.run_id = found.run_id AND entry.position = found.position
"""

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

# Batches that a retry emptied count, too: what they took was spent.
_RUN_COST = """
CREATE VIEW run_cost AS
SELECT batch.run_id,
    CAST(sum(CASE WHEN batch.finished_at IS NULL THEN 0 ELSE batch.images END) AS BIGINT) AS images,
    CAST(sum(batch.inferences) AS BIGINT) AS inferences,
    CAST(sum(batch.requests) AS BIGINT) AS requests,
    CAST(sum(batch.not_modified) AS BIGINT) AS not_modified,
    CAST(sum(batch.bytes_fetched) AS BIGINT) AS bytes_fetched,
    sum(batch.cpu_seconds) AS cpu_seconds,
    sum(batch.gpu_seconds) AS gpu_seconds,
    max(batch.finished_at) - min(batch.started_at) AS seconds,
    sum(CASE WHEN batch.finished_at IS NULL THEN 0 ELSE batch.images END)
        / nullif(max(batch.finished_at) - min(batch.started_at), 0) AS images_per_second
FROM batch
GROUP BY batch.run_id
"""

_RUN_DRIFT = """
CREATE VIEW run_drift AS
SELECT run_id, reference_id, model_name AS model, version, reference_version, number, kind, column_name, group_value,
    images, reference_images, failed, reference_failed, unknown_share, reference_unknown_share,
    label_share, reference_label_share, label_psi, label_chance, score_psi, score_chance, failed_psi, failed_chance,
    distance, distance_chance, threshold, max_distance, above, above <> '' AS drifted, created_at
FROM drift
"""

_AUDIT_LOG = """
CREATE VIEW audit_log AS
SELECT event.id, event.at, event.action, event.user_name, event.host, event.run_id,
    (SELECT model.name FROM model WHERE model.id = event.name_id) AS model,
    (SELECT model.version FROM model WHERE model.id = event.from_id) AS from_version,
    (SELECT model.version FROM model WHERE model.id = event.to_id) AS to_version,
    event.reason, event.details
FROM audit_event AS event
"""

# From each promotion or rollback until the next one of the same name.
_MODEL_PRODUCTION = """
CREATE VIEW model_production AS
SELECT model.name AS model, model.version, event.at AS since,
    lead(event.at) OVER (PARTITION BY event.name_id ORDER BY event.at, event.id) AS until,
    event.user_name, event.host, event.reason
FROM audit_event AS event
JOIN model ON model.id = event.to_id
WHERE event.action IN ('promote', 'rollback')
"""


def create_statements(dialect: str) -> Iterator[str]:
    """Yield the statements that create the views, for PostgreSQL or SQLite."""
    postgresql = dialect == "postgresql"
    # SQLite's hex(NULL) is an empty text.
    in_sqlite = "CASE WHEN image_content.sha256 IS NOT NULL THEN lower(hex(image_content.sha256)) END"
    sha256 = "encode(image_content.sha256, 'hex')" if postgresql else in_sqlite
    words = {"shown": _SHOWN.format(sha256=sha256), "tagged_at": _TAGGED_AT}
    parts = [_LABEL_OF_RANK.format(rank=rank) for rank in range(1, LABELS + 1)] + [_FURTHER_LABELS]
    if postgresql:
        codes = "{" + ", ".join(f'"{bits}": "{_json(found)}"' for found, bits in rle_code.CODES.items()) + "}"
        yield _RLE_FUNCTION.format(codes=codes, pattern=rle_code.PATTERN)
        labels = _LABELS.format(labels="result_label", **words)
    else:
        # SQLite looks a part up by its index only if the UNION ALL is the outermost.
        labels = " UNION ALL ".join(_LABELS.format(labels=f"({part})", **words) for part in parts)
    yield _RESULT_LABEL.format(parts=" UNION ALL ".join(parts))
    yield from shown_views.create_statements()
    yield f"CREATE VIEW catalog_labels AS {labels}"
    yield _MASKS.format(rle="tagmill_rle(found.rle)" if postgresql else "found.rle", **words)
    yield _CHANGES
    yield _EMBEDDINGS
    yield _TAGGED_POSTGRESQL if postgresql else _TAGGED_SQLITE
    for duplicates in (_CATALOG_DUPLICATES, _RUN_DUPLICATES):
        yield duplicates.format(sha256=sha256)
    yield from picture_views.create_statements(dialect, sha256)
    yield from run_views.create_statements(dialect)
    yield _RUN_COST
    yield _RUN_DRIFT
    yield _AUDIT_LOG
    yield _MODEL_PRODUCTION
    yield _RUN_IMAGE.format(sha256=sha256, extra="entry.extra::json" if postgresql else "entry.extra")


def _json(character: str) -> str:
    return "\\\\" if character == "\\" else character

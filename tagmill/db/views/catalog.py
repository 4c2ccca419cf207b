"""The SQL of the views of what the catalog shows: labels, masks, changes, embeddings."""

from collections.abc import Iterator

from tagmill.db import rle_code
from tagmill.db.schema import LABELS

#: in the order in which they can be dropped
CATALOG_VIEWS = ("catalog_embeddings", "catalog_changes", "catalog_masks", "catalog_labels", "result_label")

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


def create_statements(dialect: str, sha256: str) -> Iterator[str]:
    """Yield the statements that create the views, for PostgreSQL or SQLite; `sha256` makes a hash text."""
    postgresql = dialect == "postgresql"
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
    yield f"CREATE VIEW catalog_labels AS {labels}"
    yield _MASKS.format(rle="tagmill_rle(found.rle)" if postgresql else "found.rle", **words)
    yield _CHANGES
    yield _EMBEDDINGS


def _json(character: str) -> str:
    return "\\\\" if character == "\\" else character

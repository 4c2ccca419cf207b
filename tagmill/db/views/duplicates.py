"""The SQL of the views of duplicates: the groups in the catalog and in runs."""

from collections.abc import Iterator

#: in the order in which they can be dropped
DUPLICATE_VIEWS = ("catalog_duplicates", "run_duplicates")

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


def create_statements(sha256: str) -> Iterator[str]:
    """Yield the statements that create the views; `sha256` makes a hash text."""
    for duplicates in (_CATALOG_DUPLICATES, _RUN_DUPLICATES):
        yield duplicates.format(sha256=sha256)

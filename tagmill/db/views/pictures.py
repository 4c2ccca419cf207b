"""The SQL of the views about pictures: their measures, their attributes, and the rules that they break.

Rules are applied when a view is read: a changed rule needs no new measuring.
"""

from collections.abc import Iterator

from tagmill.rules.measures import MEASURES, PRODUCT_COPIES

#: in the order in which they can be dropped
PICTURE_VIEWS = ("catalog_violations", "run_violations", "catalog_attributes", "catalog_pictures", "run_pictures")

_COLUMNS = """
    shown.image_id, {sha256} AS sha256, image_content.width, image_content.height, image_content.bytes,
    image_content.format, picture.phash, picture.phash_mirrored, picture.product_from, picture.white_border,
    picture.product_area, picture.product_extent, picture.box_left, picture.box_top, picture.box_right,
    picture.box_bottom, picture.sharpness, picture.brightness, picture.contrast, picture.frame, picture.text_share,
    picture.text_boxes
"""
# Of a key that several models show, the image of the newest run counts.
_CATALOG_PICTURES = f"""
CREATE VIEW catalog_pictures AS
SELECT shown.image_key, entry.uri, shown.run_id, shown.position, entry.extra, {_COLUMNS}
FROM catalog_entry AS shown
JOIN picture ON picture.image_id = shown.image_id
JOIN image_content ON image_content.id = shown.image_id
JOIN entry ON entry.run_id = shown.run_id AND entry.position = shown.position
WHERE NOT EXISTS (
    SELECT 1 FROM catalog_entry AS newer
    WHERE newer.image_key = shown.image_key
        AND (newer.run_id, newer.name_id, newer.place) > (shown.run_id, shown.name_id, shown.place)
)
"""
_RUN_PICTURES = f"""
CREATE VIEW run_pictures AS
SELECT entry.image_key, entry.uri, shown.run_id, shown.position, entry.extra, {_COLUMNS}
FROM tagged_entry AS shown
JOIN picture ON picture.image_id = shown.image_id
JOIN image_content ON image_content.id = shown.image_id
JOIN entry ON entry.run_id = shown.run_id AND entry.position = shown.position
"""
_ATTRIBUTES = """
CREATE VIEW catalog_attributes AS
SELECT shown.image_key, shown.uri, shown.run_id, shown.sha256, attribute.name AS attribute, value.name AS value,
    found.score
FROM catalog_pictures AS shown
JOIN picture_attribute AS found ON found.image_id = shown.image_id
JOIN label_name AS attribute ON attribute.id = found.attribute_id
JOIN label_name AS value ON value.id = found.value_id
"""
# A product is named by a column of its entries, or else by the folder in its keys. Candidates are looked up by the
# index of the hashes, so that not all pictures are compared with all.
_COPIES = """(
    SELECT count(DISTINCT other.image_key) FROM picture AS twin
    JOIN {entries} AS other ON other.image_id = twin.image_id
    JOIN entry AS of_other ON of_other.run_id = other.run_id AND of_other.position = other.position
    WHERE twin.phash = shown.phash AND {same_run} of_other.image_key <> shown.image_key
        AND {of_other} = {of_shown}
)"""
_VIOLATIONS = """
SELECT image_key, uri, run_id, sha256, rule_set, rule, severity, measure, measured, comparison, bound, detail
FROM (
    SELECT shown.*, rules.*, CASE rules.measure {cases} END AS measured
    FROM {pictures} AS shown CROSS JOIN {rules} AS rules
) AS found
WHERE (comparison = 'at_least' AND measured < bound) OR (comparison = 'at_most' AND measured > bound)
"""
#: columns of a rule, as of the table `picture_rule`
RULE = ("rule_set", "rule", "severity", "measure", "comparison", "bound", "product", "detail")


def violations(dialect: str, pictures: str, rules: str = "picture_rule") -> str:
    """Return a SELECT of the violations of `rules` by the pictures of a view, catalog_pictures or run_pictures."""
    of_run = pictures == "run_pictures"
    copies = _COPIES.format(
        entries="(SELECT tagged.image_id, entry.image_key, tagged.run_id, tagged.position FROM tagged_entry AS tagged "
        "JOIN entry ON entry.run_id = tagged.run_id AND entry.position = tagged.position)"
        if of_run
        else "catalog_entry",
        same_run="other.run_id = shown.run_id AND" if of_run else "",
        of_other=_product(dialect, "of_other"),
        of_shown=_product(dialect, "shown"),
    )
    cases = " ".join(
        f"WHEN '{name}' THEN {copies if name == PRODUCT_COPIES else measure.sql}" for name, measure in MEASURES.items()
    )
    return _VIOLATIONS.format(cases=cases, pictures=pictures, rules=rules)


def given_rules(dialect: str) -> str:
    """Return a subquery of rules that are passed as JSON, in the parameter `rules`."""
    if dialect == "postgresql":
        types = {"bound": "float8"}
        columns = ", ".join(f"{name} {types.get(name, 'text')}" for name in RULE)
        return f"(SELECT * FROM json_to_recordset(CAST(:rules AS json)) AS given ({columns}))"
    columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in RULE)
    return f"(SELECT {columns} FROM json_each(:rules))"


def create_statements(dialect: str, sha256: str) -> Iterator[str]:
    """Yield the statements that create the views, for PostgreSQL or SQLite; `sha256` makes a hash text."""
    yield _CATALOG_PICTURES.format(sha256=sha256)
    yield _RUN_PICTURES.format(sha256=sha256)
    yield _ATTRIBUTES
    for kind in ("catalog", "run"):
        yield f"CREATE VIEW {kind}_violations AS {violations(dialect, f'{kind}_pictures')}"


def _product(dialect: str, table: str) -> str:
    """Return the expression that names the product of an entry; NULL if nothing does."""
    column = (
        f"({table}.extra::json ->> rules.product)"
        if dialect == "postgresql"
        else f"json_extract({table}.extra, '$.\"' || rules.product || '\"')"
    )
    folder = f"rtrim({table}.image_key, replace({table}.image_key, '/', ''))"
    return f"coalesce({column}, nullif({folder}, ''))"

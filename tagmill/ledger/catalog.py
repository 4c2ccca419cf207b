"""What the catalog shows: for each key and name of a model, the newest run that tagged the key.

The transaction that completes a batch (`tagmill.ledger.complete`) writes it, so that readers need no comparison of
runs. The newest run wins whatever the order in which runs end: a row is replaced only by one of the same or a newer
run. Two versions of a name in one run are both shown; the newest has place 0, and its row decides which run the key
shows. An entry of a run that a canary tagged, too, has the canary's version (`canary_entry`).

What readers see is the view `shown_entry` over this table: a promotion or a rollback may have it show another version.
"""

import math

from sqlalchemy import Engine, bindparam, delete, literal_column, select, text, update

from tagmill.db.any_of import any_of
from tagmill.db.connection import epoch_now
from tagmill.db.schema import catalog_entry, shown_instead

#: columns whose values differ within a run; with a canary, `model_id` is one, too
COLUMNS = ("image_key", "position", "image_id")
#: what a row becomes when a newer run, or the same one again, tagged its key
REPLACE = """
ON CONFLICT (image_key, name_id, place) DO UPDATE SET
    run_id = excluded.run_id, position = excluded.position, image_id = excluded.image_id, model_id = excluded.model_id,
    changed_at = CASE WHEN catalog_entry.image_id = excluded.image_id AND catalog_entry.model_id = excluded.model_id
                      THEN catalog_entry.changed_at ELSE excluded.changed_at END
WHERE catalog_entry.run_id <= excluded.run_id
"""

# Built once: batches run these statements.
_OF_KEYS = any_of(catalog_entry.c.image_key, "keys")
#: deletes the further versions that older runs showed
OLDER_VERSIONS = delete(catalog_entry).where(
    _OF_KEYS,
    any_of(catalog_entry.c.name_id, "names"),
    catalog_entry.c.place > literal_column("0"),
    catalog_entry.c.run_id < bindparam("run"),
)
#: the keys that show a run, by the row of place 0
SHOWN_BY = select(catalog_entry.c.image_key).where(
    _OF_KEYS,
    catalog_entry.c.name_id == bindparam("name"),
    catalog_entry.c.place == literal_column("0"),
    catalog_entry.c.run_id == bindparam("run"),
)
#: marks the keys that show an image of which a promoted version has a result only now
MARK_CHANGED = (
    update(catalog_entry)
    .where(
        any_of(catalog_entry.c.image_id, "images"),
        catalog_entry.c.model_id.in_(
            select(shown_instead.c.model_id).where(
                any_of(shown_instead.c.shown_id, "models"), shown_instead.c.shown_id != shown_instead.c.model_id
            )
        ),
        catalog_entry.c.changed_at < bindparam("now"),
    )
    .values(changed_at=bindparam("now"))
)
_REBUILD = text("""
INSERT INTO catalog_entry (image_key, name_id, place, run_id, position, image_id, model_id, changed_at)
SELECT image_key, name_id, place, run_id, position, image_id, model_id, changed_at FROM (
    SELECT entry.image_key, pinned.name_id, pinned.place, entry.run_id, entry.position, tagged.image_id,
        coalesce(tried.model_id, pinned.model_id) AS model_id, coalesce(same.changed_at, :now) AS changed_at,
        rank() OVER (PARTITION BY entry.image_key, pinned.name_id ORDER BY entry.run_id DESC) AS age
    FROM tagged_entry AS tagged
    JOIN entry ON entry.run_id = tagged.run_id AND entry.position = tagged.position
    JOIN (
        SELECT run_model.run_id, model.name_id, model.id AS model_id,
            row_number() OVER (PARTITION BY run_model.run_id, model.name_id ORDER BY model.version DESC) - 1 AS place
        FROM run_model JOIN model ON model.id = run_model.model_id
    ) AS pinned ON pinned.run_id = entry.run_id
    LEFT JOIN (
        SELECT canary_entry.*, model.name_id FROM canary_entry JOIN model ON model.id = canary_entry.model_id
    ) AS tried ON tried.run_id = entry.run_id AND tried.position = entry.position AND tried.name_id = pinned.name_id
    LEFT JOIN shown_before AS same ON same.image_key = entry.image_key AND same.name_id = pinned.name_id
        AND same.place = pinned.place AND same.image_id = tagged.image_id
        AND same.model_id = coalesce(tried.model_id, pinned.model_id)
) AS found WHERE age = 1
""")

# What a label set labeled is shown by the same rule.
_REBUILD_LABEL_SETS = text("""
INSERT INTO catalog_entry (image_key, name_id, place, run_id, position, image_id, model_id, changed_at)
SELECT image_key, name_id, 0, run_id, position, image_id, model_id, changed_at FROM (
    SELECT entry.image_key, model.name_id, entry.run_id, entry.position, tagged.image_id, model.id AS model_id,
        coalesce(same.changed_at, :now) AS changed_at,
        rank() OVER (PARTITION BY entry.image_key, model.name_id ORDER BY entry.run_id DESC) AS age
    FROM label_set_run AS applied
    JOIN model ON model.id = applied.model_id
    JOIN tagged_entry AS tagged ON tagged.run_id = applied.run_id
    JOIN entry ON entry.run_id = tagged.run_id AND entry.position = tagged.position
    JOIN result ON result.image_id = tagged.image_id AND result.model_id = applied.model_id
    LEFT JOIN shown_before AS same ON same.image_key = entry.image_key AND same.name_id = model.name_id
        AND same.place = 0 AND same.image_id = tagged.image_id AND same.model_id = model.id
) AS found WHERE age = 1
""")


def rebuild(engine: Engine) -> int:
    """Make the table again from the runs, and return the number of its rows.

    Workers that complete a batch meanwhile wait. A row keeps `changed_at` if it shows what it showed.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE catalog_entry IN SHARE ROW EXCLUSIVE MODE"))
        now = connection.execute(select(epoch_now())).scalar_one()
        connection.execute(text("CREATE TEMPORARY TABLE shown_before AS SELECT * FROM catalog_entry"))
        connection.execute(delete(catalog_entry))
        rows = sum(
            connection.execute(made, {"now": math.ceil(now)}).rowcount for made in (_REBUILD, _REBUILD_LABEL_SETS)
        )
        connection.execute(text("DROP TABLE shown_before"))
    return int(rows)

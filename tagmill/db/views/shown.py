"""The SQL of the views that say which version of a model the catalog shows for a key.

A row of `catalog_entry` has the version that tagged its key last. After a promotion or a rollback, `shown_instead` may
name another one: that is shown if the image has a result of it. Two exceptions: a key of which a run showed two
versions keeps both, and an entry that a running canary tagged keeps the canary's while it is in its share.

Nothing is looked up while `shown_instead` is empty. Otherwise each row costs a lookup in it, and one of a result if it
names another version. Only the version and `changed_at` are computed: the other columns are those of the table, so that
its indexes serve all queries.
"""

from collections.abc import Iterator

#: in the order in which they can be dropped
SHOWN_VIEWS = ("shown_change", "shown_entry")

_ANY = "EXISTS (SELECT 1 FROM shown_instead)"
_SHOWN = f"""
CASE WHEN NOT {_ANY} THEN own.model_id ELSE coalesce((
    SELECT other.shown_id FROM shown_instead AS other
    WHERE other.model_id = own.model_id AND other.shown_id <> own.model_id AND own.place = 0
        AND EXISTS (SELECT 1 FROM result WHERE result.image_id = own.image_id AND result.model_id = other.shown_id)
        AND NOT EXISTS (
            SELECT 1 FROM catalog_entry AS compared
            WHERE compared.image_key = own.image_key AND compared.name_id = own.name_id AND compared.place > 0
        )
        AND NOT EXISTS (
            SELECT 1 FROM canary_entry AS tried
            JOIN rollout ON rollout.name_id = own.name_id AND rollout.kind = 'canary'
                AND rollout.model_id = tried.model_id AND rollout.share > tried.point
            WHERE tried.run_id = own.run_id AND tried.position = own.position AND tried.model_id = own.model_id
        )
), own.model_id) END
"""
# Whether what is shown may have changed since the row was written: the image has a result of another version.
_OTHER_RESULT = """EXISTS (
    SELECT 1 FROM result JOIN model ON model.id = result.model_id
    WHERE result.image_id = own.image_id AND result.model_id <> own.model_id AND model.name_id = own.name_id
)"""
_SHOWN_SINCE = f"""(
    SELECT CAST(since AS BIGINT) FROM shown_instead
    WHERE shown_instead.model_id = own.model_id AND since > own.changed_at AND {_OTHER_RESULT}
)"""
_COLUMNS = f"""
    own.image_id, own.run_id, own.position, own.name_id, {_SHOWN} AS model_id, own.place, own.image_key
"""
_SHOWN_ENTRY = f"""
CREATE VIEW shown_entry AS
SELECT {_COLUMNS},
    CASE WHEN NOT {_ANY} THEN own.changed_at ELSE coalesce({_SHOWN_SINCE}, own.changed_at) END AS changed_at
FROM catalog_entry AS own
"""
# The rows of `shown_entry` in two parts, each with a `changed_at` that is a column of a table: what changed since a
# time is found by index. The second part is not run at all while `shown_instead` is empty.
_SHOWN_CHANGE = f"""
CREATE VIEW shown_change AS
SELECT {_COLUMNS}, own.changed_at
FROM catalog_entry AS own
WHERE NOT {_ANY} OR {_SHOWN_SINCE} IS NULL
UNION ALL
SELECT {_COLUMNS}, CAST(instead.since AS BIGINT) AS changed_at
FROM shown_instead AS instead
JOIN catalog_entry AS own ON own.model_id = instead.model_id AND instead.since > own.changed_at
WHERE {_ANY} AND {_OTHER_RESULT}
"""


def create_statements() -> Iterator[str]:
    """Yield the statements that create the views."""
    yield _SHOWN_ENTRY
    yield _SHOWN_CHANGE

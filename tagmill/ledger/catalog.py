"""What the catalog shows: for each key and name of a model, the newest run that tagged the key.

The transaction that completes a batch writes it, so that readers need no comparison of runs. The newest run wins
whatever the order in which runs end: a row is replaced only by one of the same or a newer run. Two versions of a name
in one run are both shown; the newest has place 0, and its row decides which run the key shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, delete, literal_column, select, text

from tagmill.db.any_of import any_of
from tagmill.db.bulk import upsert_rows
from tagmill.db.connection import epoch_now
from tagmill.db.schema import catalog_entry
from tagmill.ledger.leases import PinnedModel

_COLUMNS = ("image_key", "position", "image_id")
#: what a row becomes when a newer run, or the same one again, tagged its key
_REPLACE = """
ON CONFLICT (image_key, name_id, place) DO UPDATE SET
    run_id = excluded.run_id, position = excluded.position, image_id = excluded.image_id, model_id = excluded.model_id,
    changed_at = CASE WHEN catalog_entry.image_id = excluded.image_id AND catalog_entry.model_id = excluded.model_id
                      THEN catalog_entry.changed_at ELSE excluded.changed_at END
WHERE catalog_entry.run_id <= excluded.run_id
"""
# Built once: every batch runs these statements.
_OF_KEYS = any_of(catalog_entry.c.image_key, "keys")
_OLDER_VERSIONS = delete(catalog_entry).where(
    _OF_KEYS,
    any_of(catalog_entry.c.name_id, "names"),
    catalog_entry.c.place > literal_column("0"),
    catalog_entry.c.run_id < bindparam("run"),
)
_MINE = select(catalog_entry.c.image_key).where(
    _OF_KEYS,
    catalog_entry.c.name_id == bindparam("name"),
    catalog_entry.c.place == literal_column("0"),
    catalog_entry.c.run_id == bindparam("run"),
)
_REBUILD = text("""
INSERT INTO catalog_entry (image_key, name_id, place, run_id, position, image_id, model_id, changed_at)
SELECT image_key, name_id, place, run_id, position, image_id, model_id, changed_at FROM (
    SELECT entry.image_key, pinned.name_id, pinned.place, entry.run_id, entry.position, tagged.image_id,
        pinned.model_id, coalesce(same.changed_at, :now) AS changed_at,
        rank() OVER (PARTITION BY entry.image_key, pinned.name_id ORDER BY entry.run_id DESC) AS age
    FROM tagged_entry AS tagged
    JOIN entry ON entry.run_id = tagged.run_id AND entry.position = tagged.position
    JOIN (
        SELECT run_model.run_id, model.name_id, model.id AS model_id,
            row_number() OVER (PARTITION BY run_model.run_id, model.name_id ORDER BY model.version DESC) - 1 AS place
        FROM run_model JOIN model ON model.id = run_model.model_id
    ) AS pinned ON pinned.run_id = entry.run_id
    LEFT JOIN shown_before AS same ON same.image_key = entry.image_key AND same.name_id = pinned.name_id
        AND same.place = pinned.place AND same.image_id = tagged.image_id AND same.model_id = pinned.model_id
) AS found WHERE age = 1
""")


@dataclass(frozen=True)
class TaggedEntry:
    """An entry of a run that was tagged."""

    image_key: str
    position: int
    image_id: int


def show(
    connection: Connection, run_id: int, models: Sequence[PinnedModel], tagged: Sequence[TaggedEntry], now: float
) -> None:
    """Show the results of a run for the keys of `tagged`, unless a newer run shows something already."""
    keys = [found.image_key for found in tagged]
    # By name and place: in the same order in all transactions.
    for model in sorted(models, key=lambda found: (found.name_id, found.place)):
        won = tagged
        if model.place:
            mine = {"run": run_id, "name": model.name_id, "keys": keys}
            shown = set(connection.execute(_MINE, mine).scalars())
            won = [found for found in tagged if found.image_key in shown]
        _replace(connection, run_id, model, won, math.ceil(now))
    names = [found.name_id for found in models if found.had_versions]
    if names:
        connection.execute(_OLDER_VERSIONS, {"run": run_id, "names": names, "keys": keys})


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
        rows = connection.execute(_REBUILD, {"now": math.ceil(now)}).rowcount
        connection.execute(text("DROP TABLE shown_before"))
    return int(rows)


def _replace(connection: Connection, run_id: int, model: PinnedModel, tagged: Sequence[TaggedEntry], now: int) -> None:
    same = {"name_id": model.name_id, "place": model.place, "model_id": model.id, "run_id": run_id, "changed_at": now}
    # In the order of the key: transactions that show the same keys wait for each other instead of deadlocking.
    rows = sorted((found.image_key, found.position, found.image_id) for found in tagged)
    upsert_rows(connection, catalog_entry, _COLUMNS, rows, _REPLACE, same)

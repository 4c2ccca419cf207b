"""Write the groups of duplicates that `tagmill duplicates` found."""

from collections.abc import Iterable

from sqlalchemy import Engine, delete, select

from tagmill.db.bulk import insert_rows
from tagmill.db.connection import epoch_now
from tagmill.db.schema import duplicate_image

#: in place of the id of a run: the images that the catalog shows
CATALOG = 0

_COLUMNS = ("run_id", "group_id", "image_id", "kind", "distance", "similarity", "found_at")

#: group, image, kind, distance, similarity
Row = tuple[int, int, str, int | None, float | None]


def replace_duplicates(engine: Engine, run_id: int | None, rows: Iterable[Row]) -> None:
    """Replace the groups of a run, or of the catalog, in one transaction."""
    place = CATALOG if run_id is None else run_id
    with engine.begin() as connection:
        now = connection.execute(select(epoch_now())).scalar_one()
        connection.execute(delete(duplicate_image).where(duplicate_image.c.run_id == place))
        insert_rows(connection, duplicate_image, _COLUMNS, [(place, *row, now) for row in rows])

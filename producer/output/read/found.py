"""What is known of a run's pictures beside labels and masks: groups of copies, and whether any was measured."""

from typing import Any

from sqlalchemy import Engine, select, text

from tagmill.db.connection import reading
from tagmill.db.schema import duplicate_image, picture

_MEMBERS = text("""
    SELECT group_id, image_key, kind, distance, similarity FROM run_duplicates WHERE run_id = :run
    ORDER BY group_id, image_key
""")


def duplicate_members(engine: Engine, run_id: int) -> list[Any]:
    """Return the images of the groups of a run, group by group, as `run_duplicates` has them."""
    found = select(duplicate_image.c.run_id).where(duplicate_image.c.run_id == run_id).limit(1)
    with reading(engine) as connection:
        # The view looks at all images of the run.
        if connection.execute(found).first() is None:
            return []
        return list(connection.execute(_MEMBERS, {"run": run_id}))


def any_measured(engine: Engine) -> bool:
    """Return whether any picture was measured, in whatever run."""
    with reading(engine) as connection:
        return connection.execute(select(picture.c.image_id).limit(1)).first() is not None

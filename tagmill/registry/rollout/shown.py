"""What the catalog shows instead of the versions that tagged its keys: the rows of `shown_instead`."""

import math
from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from tagmill.db.connection import epoch_now
from tagmill.db.schema import shown_instead


def show_instead(connection: Connection, versions: Iterable[int], shown_id: int) -> None:
    """Have the catalog show one version instead of some, which may include itself, from now on.

    The time is in whole seconds, rounded up like `catalog_entry.changed_at`: whoever asks for what changed since the
    second before finds it.
    """
    chosen = list(versions)
    now = math.ceil(connection.execute(select(epoch_now())).scalar_one())
    connection.execute(delete(shown_instead).where(shown_instead.c.model_id.in_(chosen)))
    rows = [{"model_id": version, "shown_id": shown_id, "since": now} for version in chosen]
    connection.execute(insert(shown_instead), rows)

"""What every page of results is read with."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Connection, select, text

from tagmill.db.any_of import any_of
from tagmill.db.schema import image_content

#: images per round of queries
PAGE = 2000

Columns = tuple[Column[Any], ...]
IMAGE = (image_content.c.id, image_content.c.sha256, image_content.c.width, image_content.c.height)


def look_up_by_index(connection: Connection) -> None:
    """Have PostgreSQL use an index for each lookup of this transaction.

    Without statistics, as after `pg_upgrade`, it expects the masks of a page to be all masks, and reads the table.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL enable_seqscan = off"))


def by_id(connection: Connection, columns: Columns, ids: Iterable[int]) -> dict[int, Any]:
    """Return the rows of a table with these keys, by key, which is the first of the columns."""
    found = connection.execute(select(*columns).where(any_of(columns[0], "ids")), {"ids": list(ids)})
    return {row[0]: row for row in found.all()}

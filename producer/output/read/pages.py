"""What every page of results is read with."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Connection, select

from tagmill.db.any_of import any_of
from tagmill.db.schema import image_content

#: images per round of queries
PAGE = 2000

Columns = tuple[Column[Any], ...]
IMAGE = (image_content.c.id, image_content.c.sha256, image_content.c.width, image_content.c.height)


def by_id(connection: Connection, columns: Columns, ids: Iterable[int]) -> dict[int, Any]:
    """Return the rows of a table with these keys, by key, which is the first of the columns."""
    found = connection.execute(select(*columns).where(any_of(columns[0], "ids")), {"ids": list(ids)})
    return {row[0]: row for row in found.all()}

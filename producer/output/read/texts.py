"""What is known of the texts of chosen entries before they are read: whether they are ASCII, and their columns."""

import json
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Engine, LargeBinary, Select, and_, cast, func, or_, select, text

from producer.output.extra_columns import ExtraColumn, columns_of
from tagmill.db.connection import look_up_by_index, reading
from tagmill.db.schema import catalog_entry, entry
from tagmill.registry.models import Model

_KINDS_POSTGRESQL = """
SELECT DISTINCT item.key, CASE json_typeof(item.value)
    WHEN 'number' THEN CASE WHEN item.value::text ~ '^-?[0-9]{{1,18}}$' THEN 'integer' ELSE 'number' END
    ELSE json_typeof(item.value) END
FROM ({chosen}) AS chosen, json_each(chosen.extra::json) AS item
"""
_KINDS_SQLITE = """
SELECT DISTINCT item.key, CASE
    WHEN item.type IN ('true', 'false') THEN 'boolean'
    WHEN item.type = 'integer' AND length(item.value) < 19 THEN 'integer'
    WHEN item.type IN ('integer', 'real') THEN 'number'
    ELSE item.type END
FROM ({chosen}) AS chosen, json_each(chosen.extra) AS item
"""


def is_ascii(engine: Engine, run_ids: Sequence[int], models: Sequence[Model]) -> bool:
    """Return whether keys, locations and further columns, and the labels and names of the models, are plain ASCII.

    They are those of some runs; of what the catalog shows if there are none.
    """
    if not all(text.isascii() for found in models for text in (found.name, *found.labels)):
        return False
    with reading(engine) as connection:
        look_up_by_index(connection)
        in_bytes = func.octet_length if connection.dialect.name == "postgresql" else _octet_length
        columns = (entry.c.image_key, entry.c.uri, entry.c.extra)
        other = or_(*(in_bytes(column) != func.length(column) for column in columns))
        return connection.execute(_entries(run_ids).where(other).limit(1)).first() is None


def extra_columns(engine: Engine, run_ids: Sequence[int]) -> tuple[ExtraColumn, ...]:
    """Return the further columns of the entries of some runs, or of the catalog, in the order of the first entry."""
    has_any = _entries(run_ids).where(entry.c.extra.is_not(None))
    with reading(engine) as connection:
        look_up_by_index(connection)
        first = connection.execute(has_any.order_by(entry.c.run_id, entry.c.position).limit(1)).first()
        if first is None:
            return ()
        dialect = connection.dialect
        chosen = has_any.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        statement = _KINDS_POSTGRESQL if dialect.name == "postgresql" else _KINDS_SQLITE
        found = connection.execute(text(statement.format(chosen=chosen))).all()
    return columns_of([(name, kind) for name, kind in found], json.loads(first.extra))


def _entries(run_ids: Sequence[int]) -> Select[tuple[str | None]]:
    """Return the further columns of the entries of some runs; of those that the catalog shows if there are none."""
    if run_ids:
        return select(entry.c.extra).where(entry.c.run_id.in_(run_ids))
    shown = and_(entry.c.run_id == catalog_entry.c.run_id, entry.c.position == catalog_entry.c.position)
    return select(entry.c.extra).join(catalog_entry, shown)


def _octet_length(column: ColumnElement[str | None]) -> ColumnElement[int]:
    """Return the number of bytes of a text for SQLite, which has `octet_length` since version 3.43 alone."""
    return func.length(cast(column, LargeBinary))

"""Read what the catalog shows now, in the order of its keys, in flat memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table, and_, func, select

from producer.output.image_result import ImageResult
from producer.output.read import pages
from producer.output.read.answers import AnswerReader, chosen
from producer.output.read.pages import IMAGE, by_id
from tagmill.db.any_of import any_of
from tagmill.db.connection import look_up_by_index, reading
from tagmill.db.schema import catalog_entry, entry, shown_change, shown_entry, shown_instead
from tagmill.errors import ServiceDown
from tagmill.outcomes import ImageStatus
from tagmill.registry.models import Model

#: changes with each promotion, rollback and canary
_INSTEAD = select(
    func.count().label("versions"),
    func.max(shown_instead.c.since),
    func.sum(shown_instead.c.model_id * shown_instead.c.shown_id),
)


def read_catalog(
    engine: Engine, models: Sequence[Model], names: Mapping[str, str], since: float | None = None
) -> Iterator[ImageResult]:
    """Yield what the catalog shows of some models, by key; `names` are those of the models in the results, by sha256.

    A key has one image, unless its models last tagged different bytes: then it has one for each of the bytes, the
    newest run first. With `since`, yield the keys of which something changed at that time or later, in Unix seconds.
    Raise ServiceDown if another version comes into production meanwhile: half of the keys would show the one before.
    """
    # Two versions of a name never share an image here, but they may share its bytes with another key.
    answering = AnswerReader(models, {found.sha256: found.title for found in models})
    named = {found.id: (found.title, names[found.sha256]) for found in models}
    last, began = "", None
    while True:
        with reading(engine) as connection:
            look_up_by_index(connection)
            instead = connection.execute(_INSTEAD).one()
            if instead != (began := began or instead):
                raise ServiceDown(
                    "what the catalog shows changed while it was read: a version came into production or left it, or a "
                    "canary changed; run the command again"
                )
            # While no version is shown instead of another, the table says the same as the views, by simpler plans.
            table, changes = (shown_entry, shown_change) if instead.versions else (catalog_entry, catalog_entry)
            keys = _next_keys(connection, changes if since else table, list(named), last, since)
            if not keys:
                return
            last = keys[-1]
            shown = _shown(connection, table, keys, list(named))
            ids = {row.image_id for rows in shown.values() for row in rows}
            images = by_id(connection, IMAGE, ids)
            answers = answering.read(connection, list(ids))
        for key in keys:
            for rows in _by_image(shown[key]):
                newest = rows[0]
                image_id, sha256, width, height = images[newest.image_id]
                found = chosen(answers[image_id], [named[row.model_id] for row in rows])
                facts = (sha256, width, height, *found, newest.run_id, newest.extra)
                yield ImageResult(newest.position, key, newest.uri, ImageStatus.TAGGED, None, None, *facts)


def _next_keys(
    connection: Connection, table: Table, models: Sequence[int], last: str, since: float | None
) -> list[str]:
    key = table.c.image_key
    found = select(key).distinct().where(table.c.model_id.in_(models), key > last)
    if since is not None:
        found = found.where(table.c.changed_at >= since)
    return list(connection.execute(found.order_by(key).limit(pages.PAGE)).scalars())


def _shown(connection: Connection, table: Table, keys: Sequence[str], models: Sequence[int]) -> Mapping[str, list[Any]]:
    """Return the rows of the catalog of each key, the newest run first."""
    of_entry = and_(entry.c.run_id == table.c.run_id, entry.c.position == table.c.position)
    shown = (table.c[name] for name in ("image_key", "image_id", "model_id", "run_id", "position"))
    # Not joined: PostgreSQL would read all entries of a run for a page of keys, in the order of their positions.
    texts = (
        select(column).where(of_entry).scalar_subquery().label(column.name) for column in (entry.c.uri, entry.c.extra)
    )
    wanted = select(*shown, *texts).where(any_of(table.c.image_key, "keys"), table.c.model_id.in_(models))
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(wanted, {"keys": keys}):
        rows[row.image_key].append(row)
    for of_key in rows.values():
        of_key.sort(key=lambda row: (-row.run_id, row.model_id))
    return rows


def _by_image(rows: Iterable[Any]) -> Iterable[list[Any]]:
    """Return the rows of each image, in the order of the first."""
    images: dict[int, list[Any]] = {}
    for row in rows:
        images.setdefault(row.image_id, []).append(row)
    return images.values()

"""Delete the images that nothing refers to, and the results of models that nothing uses, while workers go on."""

import time
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Engine, delete, exists, func, select
from sqlalchemy.exc import OperationalError

from tagmill.db.any_of import any_of
from tagmill.db.connection import look_up_by_index, reading
from tagmill.db.schema import (
    activation_map,
    duplicate_image,
    embedding,
    further_label,
    image_content,
    known_file,
    known_url,
    picture,
    picture_attribute,
    result,
    result_mask,
    run_model,
)
from tagmill.ledger.pruning.counts import Counts, Report
from tagmill.ledger.pruning.fence import deleting, leave_mark
from tagmill.ledger.pruning.references import References

#: ids that one statement reads, images that one transaction deletes, and known places that one looks at
PAGE, CHUNK, PLACES = 5_000, 500, 2_000
#: seconds until a deletion that waited too long for completions is tried again
_RETRY_SECONDS = 0.5
#: longest pause after a transaction: writers of SQLite wait for each other without an order
_PAUSE_SECONDS = 0.5
#: what is known of an image from a model
_OF_MODELS = (further_label, result_mask, embedding, activation_map, result)
_OF_IMAGES = (*_OF_MODELS, picture_attribute, picture, duplicate_image)


def delete_images(engine: Engine, references: References, counts: Counts, report: Report) -> None:
    """Delete the images that nothing refers to, with all that is known of them."""
    waiting: list[int] = []
    for last, ids in _images(engine, references.limit):
        report("deleting images", last, references.limit)
        waiting += references.unreferenced(ids)
        while len(waiting) >= CHUNK:
            counts.images += _delete_chunk(engine, references, waiting[:CHUNK])
            del waiting[:CHUNK]
    if waiting:
        counts.images += _delete_chunk(engine, references, waiting)


def count_images(engine: Engine, references: References) -> int:
    """Return how many images nothing refers to."""
    return sum(len(references.unreferenced(ids)) for _, ids in _images(engine, references.limit))


def delete_results(engine: Engine, models: Sequence[int], counts: Counts, report: Report) -> None:
    """Delete the results of models, as long as no run uses one of them. Their images stay."""
    limit = _largest(engine)
    for last, ids in _images(engine, limit + 1):
        report("deleting results of models", last, limit)
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            with _paced(), engine.begin() as connection:
                look_up_by_index(connection)
                # A batch that looked results up belongs to a run whose models are in SQL since before.
                used = exists().where(run_model.c.model_id.in_(models))
                if connection.execute(select(used)).scalar_one():
                    return
                for table in _OF_MODELS:
                    mine = table.c.image_id.between(part[0], part[-1]) & table.c.model_id.in_(models)
                    deleted = connection.execute(delete(table).where(mine)).rowcount
                    counts.results += deleted if table is result else 0


def forget_places(engine: Engine, counts: Counts, report: Report) -> None:
    """Delete the known files and URLs whose image is gone."""
    for table, key in ((known_file, known_file.c.identity), (known_url, known_url.c.location)):
        gone = ~exists().where(image_content.c.id == table.c.image_id)
        last, done = None, 0
        while True:
            page = select(key) if last is None else select(key).where(key > last)
            with reading(engine) as connection:
                look_up_by_index(connection)
                found = connection.execute(page.order_by(key).limit(PLACES)).scalars().all()
                lost = select(func.count()).select_from(table).where(any_of(key, "found"), gone)
                stale = connection.execute(lost, {"found": found}).scalar_one() if found else 0
            if not found:
                break
            if stale:
                with _paced(), engine.begin() as connection:
                    look_up_by_index(connection)
                    deleted = connection.execute(delete(table).where(any_of(key, "found"), gone), {"found": found})
                    counts.known += deleted.rowcount
            last, done = found[-1], done + len(found)
            report("forgetting files and URLs", done, 0)


def _images(engine: Engine, limit: int) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the ids of images below a limit page by page, with the last one."""
    last = 0
    while True:
        page = select(image_content.c.id).where(image_content.c.id > last, image_content.c.id < limit)
        with reading(engine) as connection:
            look_up_by_index(connection)
            ids = connection.execute(page.order_by(image_content.c.id).limit(PAGE)).scalars().all()
        if not ids:
            return
        last = ids[-1]
        yield last, ids


def _largest(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.coalesce(func.max(image_content.c.id), 0))).scalar_one())


def _delete_chunk(engine: Engine, references: References, ids: Sequence[int]) -> int:
    """Delete images, unless a batch has referred to them meanwhile; return how many."""
    while True:
        try:
            with _paced(), deleting(engine) as connection:
                references.add_completed(connection)
                return _delete(connection, references.unreferenced(ids))
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
        time.sleep(_RETRY_SECONDS)


def _delete(connection: Connection, ids: Sequence[int]) -> int:
    if not ids:
        return 0
    for table in _OF_IMAGES:
        connection.execute(delete(table).where(any_of(table.c.image_id, "ids")), {"ids": ids})
    connection.execute(delete(image_content).where(any_of(image_content.c.id, "ids")), {"ids": ids})
    leave_mark(connection)
    return len(ids)


class _paced:  # noqa: N801 - reads like a function
    """Pause after a block for as long as it took, so that others get half of the time."""

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        time.sleep(min(time.monotonic() - self._began, _PAUSE_SECONDS))

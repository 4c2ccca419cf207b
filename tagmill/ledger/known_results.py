"""Look up images that were inferred before, and files and URLs that were hashed before."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import image_content, known_file, known_url, model, result
from tagmill.db.types import hash_head
from tagmill.ledger.pictures.measures import measured_ids
from tagmill.measuring import Measuring
from tagmill.records import SeenUrl

# Built once: building a statement takes as long as running it. Each is a lookup by one key: a join of new, growing
# tables took PostgreSQL ten times as long (4 ms per batch).
_IMAGES = select(image_content.c.id, image_content.c.sha256).where(any_of(hash_head(image_content.c.sha256), "shas"))
_SHAS = select(image_content.c.id, image_content.c.sha256).where(any_of(image_content.c.id, "images"))
_FILES = select(known_file.c.identity, known_file.c.image_id).where(any_of(known_file.c.identity, "identities"))
_URLS = select(known_url).where(any_of(known_url.c.location, "locations"))
_RESULTS = select(result.c.image_id, result.c.model_id).where(
    any_of(result.c.image_id, "images"), any_of(result.c.model_id, "models")
)
#: engine -> sha256 -> id of models
_known_models: WeakKeyDictionary[Engine, dict[str, int]] = WeakKeyDictionary()


def known_inferences(engine: Engine, shas: Iterable[str], models: Sequence[str]) -> set[tuple[str, str]]:
    """Return the (image sha256, model sha256) pairs that have a result."""
    by_id = _models(engine, models)
    with reading(engine, snapshot=False) as connection:
        images = {row.id: row.sha256 for row in connection.execute(_IMAGES, {"shas": list(shas)})}
        return {(images[image], by_id[found]) for image, found in _results(connection, images, by_id)}


def unchanged_files(
    engine: Engine, identities: Iterable[str], models: Sequence[str], measuring: Measuring | None = None
) -> dict[str, str]:
    """Return identity -> sha256 of the files that were hashed before and have a result of each of `models`.

    With `measuring`, their pictures were measured, too.
    """
    by_id = _models(engine, models)
    with reading(engine, snapshot=False) as connection:
        found = connection.execute(_FILES, {"identities": list(identities)})
        hashed = {row.identity: row.image_id for row in found}
        complete = _complete(connection, set(hashed.values()), by_id, len(models))
        complete = measured_ids(connection, complete, measuring) if measuring else complete
        shas = _shas(connection, complete)
    return {identity: shas[image] for identity, image in hashed.items() if image in shas}


def known_urls(
    engine: Engine, locations: Iterable[str], models: Sequence[str], measuring: Measuring | None = None
) -> list[tuple[SeenUrl, bool]]:
    """Return the locations whose bytes were hashed before, each with whether it has a result of each of `models`.

    With `measuring`, its picture was measured, too.
    """
    by_id = _models(engine, models)
    with reading(engine, snapshot=False) as connection:
        found = connection.execute(_URLS, {"locations": list(locations)}).all()
        images = {row.image_id for row in found}
        complete = _complete(connection, images, by_id, len(models))
        complete = measured_ids(connection, complete, measuring) if measuring else complete
        shas = _shas(connection, images)
    return [
        (SeenUrl(row.location, shas[row.image_id], row.etag, row.last_modified), row.image_id in complete)
        for row in found
        if row.image_id in shas
    ]


def _complete(connection: Connection, images: Iterable[int], models: Iterable[int], wanted: int) -> set[int]:
    """Return the ids of those images that have `wanted` results, one of each of the models."""
    results = Counter(image for image, _ in _results(connection, images, models))
    return {image for image, count in results.items() if count == wanted}


def _shas(connection: Connection, images: Collection[int]) -> dict[int, str]:
    """Return id -> sha256 of images."""
    return {row.id: row.sha256 for row in connection.execute(_SHAS, {"images": list(images)})} if images else {}


def _results(connection: Connection, images: Iterable[int], models: Iterable[int]) -> list[tuple[int, int]]:
    """Return the (image id, model id) pairs that have a result."""
    wanted = list(images)
    if not wanted:
        return []
    return [tuple(row) for row in connection.execute(_RESULTS, {"images": wanted, "models": list(models)})]


def _models(engine: Engine, shas: Sequence[str]) -> dict[int, str]:
    """Return id -> sha256 of those models that are registered, which never change."""
    known = _known_models.setdefault(engine, {})
    if any(sha256 not in known for sha256 in shas):
        with reading(engine, snapshot=False) as connection:
            found = connection.execute(select(model.c.sha256, model.c.id).where(model.c.sha256.in_(shas)))
            known.update({row.sha256: row.id for row in found})
    return {known[sha256]: sha256 for sha256 in shas if sha256 in known}

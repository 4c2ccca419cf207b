"""`tagmill similar`: the images that look most like one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from tagmill.db.connection import reading
from tagmill.db.vectors.read import vectors_of
from tagmill.errors import InputError
from tagmill.registry.models import Model
from tagmill.search.keys import ShownKey, add_former_keys, keys_of
from tagmill.search.models import width_of
from tagmill.search.nearest import Query, nearest
from tagmill.text import normalize

# The key's image of the model that is asked, before those that other models of the catalog saw.
_IMAGES_OF_KEY = text("""
    SELECT image_id FROM catalog_entry WHERE image_key = :key
    ORDER BY CASE WHEN model_id = :model THEN 0
                  WHEN name_id = (SELECT name_id FROM model WHERE id = :model) THEN 1 ELSE 2 END, place, name_id
""")


@dataclass(frozen=True)
class SimilarImage:
    """An image that was found."""

    #: cosine of the angle between the embeddings: 1 is the same
    similarity: float
    sha256: str
    #: up to ten keys that show it; one of the run that tagged it if the catalog no longer shows it
    keys: tuple[ShownKey, ...]
    #: keys of the catalog that show it
    shown_by: int


@dataclass(frozen=True)
class Choice:
    """Which images are returned."""

    k: int = 20
    #: also images that the catalog no longer shows
    everything: bool = False
    #: compare with every embedding, although there is an index
    exact: bool = False
    #: with logins and signatures of URLs
    full_urls: bool = False


def is_known(engine: Engine, key: str) -> bool:
    """Return whether the catalog shows an image for this key."""
    with reading(engine, snapshot=False) as connection:
        return connection.execute(_IMAGES_OF_KEY, {"key": normalize(key), "model": 0}).first() is not None


def similar_to_key(engine: Engine, model: Model, key: str, choice: Choice) -> list[SimilarImage]:
    """Return the images that look most like the one that a key of the catalog shows; without that key itself.

    Raise InputError if the catalog does not have the key, or its image no embedding for the model.
    """
    key = normalize(key)
    with reading(engine) as connection:
        vector = _vector_of_key(connection, model, key)
        found = _find(connection, model, vector, choice, choice.k + 1)
    without = [_without(one, key) for one in found]
    return [one for one in without if one is not None][: choice.k]


def similar_to_vector(engine: Engine, model: Model, vector: NDArray[np.float32], choice: Choice) -> list[SimilarImage]:
    """Return the images whose embeddings are nearest to float32 [D]. Raise InputError for another width or zeros."""
    if vector.shape != (width_of(model),) or not np.isfinite(vector).all() or not vector.any():
        raise InputError(
            f"an embedding of {model.title} is {width_of(model)} finite numbers that are not all 0, not one of shape "
            f"{vector.shape}"
        )
    with reading(engine) as connection:
        return _find(connection, model, vector, choice, choice.k)


def _vector_of_key(connection: Connection, model: Model, key: str) -> NDArray[np.float32]:
    images = connection.execute(_IMAGES_OF_KEY, {"key": key, "model": model.id}).scalars().all()
    if not images:
        raise InputError(f"{key}: the catalog shows no image of this key, and there is no such file")
    for image in images:
        _, vectors = vectors_of(connection, model.id, [image])
        if len(vectors):
            found: NDArray[np.float32] = vectors[0]
            return found
    raise InputError(f"{key}: has no embedding of {model.title}; submit it with --model {model.title}")


def _find(
    connection: Connection, model: Model, vector: NDArray[np.float32], choice: Choice, k: int
) -> list[SimilarImage]:
    neighbors = nearest(connection, Query(model.id, vector, k, not choice.everything, choice.exact))
    if not neighbors:
        return []
    images = [image for image, _ in neighbors]
    keys = keys_of(connection, images, choice.full_urls)
    if choice.everything:
        add_former_keys(connection, model.id, keys, choice.full_urls)
    return [
        SimilarImage(min(1.0, near), keys[image].sha256, tuple(keys[image].keys), keys[image].count)
        for image, near in neighbors
    ]


def _without(found: SimilarImage, key: str) -> SimilarImage | None:
    """Return an image without one of its keys; None if no other shows it."""
    others = tuple(shown for shown in found.keys if shown.key != key)
    if len(others) == len(found.keys):
        return found
    if not others:
        return None
    return SimilarImage(found.similarity, found.sha256, others, found.shown_by - 1)

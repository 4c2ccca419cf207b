"""Embeddings of examples that the catalog holds, and of the catalog itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, bindparam, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import catalog_entry, model
from tagmill.db.vectors.read import sample_vectors, vectors_of

#: most embeddings of the catalog that a label set is fitted with
SAMPLE = 4096
#: keys of a lookup
_CHUNK = 1000

# Whatever version shows the key: what matters is that the image has an embedding of this one.
_IMAGES = select(catalog_entry.c.image_key, catalog_entry.c.image_id).where(
    any_of(catalog_entry.c.image_key, "keys"),
    catalog_entry.c.name_id == select(model.c.name_id).where(model.c.id == bindparam("base")).scalar_subquery(),
)


def catalog_sample(engine: Engine, base_id: int) -> NDArray[np.float32]:
    """Return some thousand embeddings of a model, spread over all, float32 [M, D]; M is 0 if there are none."""
    with reading(engine) as connection:
        return sample_vectors(connection, base_id, SAMPLE)


def embeddings_of_keys(engine: Engine, base_id: int, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return key -> embedding, float32 [D], of those keys whose image in the catalog has one."""
    found: dict[str, NDArray[np.float32]] = {}
    with reading(engine) as connection:
        for at in range(0, len(keys), _CHUNK):
            asked = {"keys": list(keys[at : at + _CHUNK]), "base": base_id}
            image_of = {row.image_key: row.image_id for row in connection.execute(_IMAGES, asked)}
            images, vectors = vectors_of(connection, base_id, sorted(set(image_of.values())))
            rows = dict(zip(images.tolist(), vectors, strict=True))
            found |= {key: rows[image] for key, image in image_of.items() if image in rows}
    return found

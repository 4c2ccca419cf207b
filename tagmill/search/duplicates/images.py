"""What is known of the images among which duplicates are looked for: their hashes and embeddings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from tagmill.db.vectors.read import read_vectors
from tagmill.registry.models import Model
from tagmill.search.duplicates.hashes import Hashes, distances
from tagmill.search.duplicates.pairs import UNKNOWN
from tagmill.search.models import width_of
from tagmill.search.nearest import CHUNK

_OF_CATALOG = text("""
    SELECT image_id, CASE WHEN count(DISTINCT image_key) > 1 THEN 1 ELSE 0 END AS shared
    FROM catalog_entry GROUP BY image_id ORDER BY image_id
""")
_OF_RUN = text("""
    SELECT image_id, CASE WHEN count(*) > 1 THEN 1 ELSE 0 END AS shared
    FROM tagged_entry WHERE run_id = :run GROUP BY image_id ORDER BY image_id
""")
# The hash of a picture of one color is that of any other: its bits are signs of nothing.
_HASHES = text("SELECT image_id, phash, phash_mirrored FROM picture WHERE contrast >= :least ORDER BY image_id")
#: least contrast, 0 to 1, of a picture whose hash says something
_LEAST_CONTRAST = 0.05


@dataclass(frozen=True)
class Images:
    """N images, in the order of their ids."""

    #: int64 [N]
    ids: NDArray[np.int64]
    #: bool [N], whether several keys or entries show it
    shared: NDArray[np.bool_]
    #: bool [N], whether it has hashes
    hashed: NDArray[np.bool_]
    #: uint64 [N], perceptual hashes, and those of the mirrored pictures
    hashes: Hashes
    mirrored: Hashes

    def __len__(self) -> int:
        return len(self.ids)

    def places_of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the numbers of images by their ids, and which of the ids are among them."""
        places = np.minimum(np.searchsorted(self.ids, ids), max(0, len(self.ids) - 1))
        return places, (self.ids[places] == ids) if len(self.ids) else np.zeros(len(ids), np.bool_)

    def compared(
        self, one: NDArray[np.integer], other: NDArray[np.integer]
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Return how far the hashes of pairs differ, and whether the mirrored picture is nearer; -1 without hashes."""
        plain = distances(self.hashes[one], self.hashes[other])
        turned = distances(self.hashes[one], self.mirrored[other])
        known = self.hashed[one] & self.hashed[other]
        return np.where(known, np.minimum(plain, turned), UNKNOWN).astype(np.int16), known & (turned < plain)


def read_images(connection: Connection, run_id: int | None) -> Images:
    """Return the images that the catalog shows, or those of a run, with their hashes."""
    chosen = connection.execute(_OF_CATALOG) if run_id is None else connection.execute(_OF_RUN, {"run": run_id})
    rows = np.array([tuple(row) for row in chosen], np.int64).reshape(-1, 2)
    count = len(rows)
    found = Images(
        rows[:, 0],
        rows[:, 1].astype(np.bool_),
        np.zeros(count, np.bool_),
        np.zeros(count, np.uint64),
        np.zeros(count, np.uint64),
    )
    if count:
        for part in connection.execute(_HASHES, {"least": _LEAST_CONTRAST}).partitions(CHUNK):
            values = np.array([tuple(row) for row in part], np.int64)
            places, among = found.places_of(values[:, 0])
            places = places[among]
            found.hashed[places] = True
            found.hashes[places] = values[among, 1].view(np.uint64)
            found.mirrored[places] = values[among, 2].view(np.uint64)
    return found


def read_embeddings(
    connection: Connection, images: Images, model: Model
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the numbers [M] of the images that have an embedding, in order, and float32 [M, D]."""
    vectors = np.zeros((len(images), width_of(model)), np.float32)
    numbers = np.zeros(len(images), np.int32)
    count = 0
    for ids, chunk in read_vectors(connection, model.id, CHUNK):
        places, among = images.places_of(ids)
        kept = int(among.sum())
        numbers[count : count + kept] = places[among]
        vectors[count : count + kept] = chunk[among]
        count += kept
    return numbers[:count], vectors[:count]

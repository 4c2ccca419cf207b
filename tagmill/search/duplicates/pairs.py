"""Pairs of images that may be duplicates, and what they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

#: what a bit of difference between two perceptual hashes takes from the similarity
PER_BIT = 0.015
#: least similarity less `PER_BIT` times the distance of two copies of one picture; how both were chosen, and what they
#: find, is in docs/similar.md
COPY_SCORE = 0.80
#: most bits that the hashes of copies differ by where embeddings are missing
HASH_ALONE = 4
#: distance of images of which one has no hash
UNKNOWN = -1


class Kind(StrEnum):
    """What an image has in common with the first one of its group."""

    #: it is the first one
    FIRST = "first"
    #: its bytes, under another key
    BYTES = "bytes"
    #: the same picture in other bytes: another size, compression or margin
    PICTURE = "picture"
    #: the same picture, mirrored left to right
    MIRRORED = "mirrored"
    #: it looks alike: perhaps the same product, photographed again
    LOOK_ALIKE = "look_alike"


@dataclass(frozen=True)
class Pairs:
    """N pairs of images, by their numbers; the first number of a pair is the smaller one."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    #: float32 [N], cosine of the embeddings; NaN if one has none
    similarity: NDArray[np.float32]
    #: int16 [N], bits by which the hashes differ, of one the mirrored if that is nearer; -1 if one has none
    distance: NDArray[np.int16]
    #: bool [N], whether the mirrored one is nearer
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def at(self, chosen: NDArray[np.generic]) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(
            self.first[chosen],
            self.second[chosen],
            self.similarity[chosen],
            self.distance[chosen],
            self.mirrored[chosen],
        )

    def are_copies(self) -> NDArray[np.bool_]:
        """Return which pairs show the same picture."""
        hashed = self.distance != UNKNOWN
        embedded = ~np.isnan(self.similarity)
        both = hashed & embedded & (self.similarity - PER_BIT * self.distance >= COPY_SCORE)
        copies: NDArray[np.bool_] = both | (hashed & ~embedded & (self.distance <= HASH_ALONE))
        return copies

    @staticmethod
    def join(parts: "Sequence[Pairs]") -> "Pairs":
        """Return all pairs of the parts, each once, in order."""
        names = ("first", "second", "similarity", "distance", "mirrored")
        empty = Pairs(
            *(np.zeros(0, kind) for kind in (np.int32, np.int32, np.float32, np.int16, np.bool_))  # type: ignore[arg-type]
        )
        every = Pairs(*(np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in names))
        _, chosen = np.unique(every.first.astype(np.int64) << 32 | every.second, return_index=True)
        return every.at(chosen)

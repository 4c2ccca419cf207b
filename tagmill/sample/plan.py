"""The plan of a catalog: the item at each index, without drawing it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.random import Generator

from tagmill.sample.files import FileFormat
from tagmill.sample.item import CATEGORIES

#: incremented whenever the same seed draws other bytes
VERSION = 1

#: formats of five consecutive images, in random order
FORMATS = (FileFormat.JPEG, FileFormat.JPEG, FileFormat.JPEG, FileFormat.PNG, FileFormat.WEBP)


@dataclass(frozen=True)
class PlannedItem:
    """One row of the manifest; paths are relative to the catalog's directory."""

    index: int
    key: str
    uri: str
    #: empty for a broken file
    category: str
    #: empty for a broken file
    mask: str
    format: FileFormat = FileFormat.JPEG


@dataclass(frozen=True)
class CatalogPlan:
    """The parameters of a catalog: the same plan draws the same bytes."""

    #: readable images
    images: int
    seed: int
    #: unreadable files; their indices follow those of the readable images
    broken: int
    version: int = VERSION

    def to_dict(self) -> dict[str, int]:
        """Return JSON values."""
        return asdict(self)

    @property
    def total(self) -> int:
        """Rows of the manifest."""
        return self.images + self.broken

    def item(self, index: int) -> PlannedItem:
        """Return the item at an index, 0 <= index < total."""
        key = f"item-{index:06d}"
        if index >= self.images:
            return PlannedItem(index, key, f"broken/{key}.jpg", "", "")
        category = CATEGORIES[self._shuffled(index, len(CATEGORIES), 1)]
        suffix = FORMATS[self._shuffled(index, len(FORMATS), 2)]
        return PlannedItem(
            index, key, f"images/{category}/{key}.{suffix}", category, f"masks/{category}/{key}.png", suffix
        )

    def generator(self, index: int) -> Generator:
        """Return the random generator of the item at an index."""
        return np.random.default_rng((self.seed, 0, index))

    def rows(self) -> Iterator[PlannedItem]:
        """Yield every item once, in the manifest's order: steps of 0.62 of the total shuffle without holding a list."""
        if not self.total:
            return
        step = max(1, round(self.total * 0.618))
        while math.gcd(step, self.total) > 1:
            step += 1
        for position in range(self.total):
            yield self.item((self.seed + position * step) % self.total)

    def _shuffled(self, index: int, length: int, stream: int) -> int:
        """Return the position of the index after shuffling its block of `length` indices."""
        block, place = divmod(index, length)
        return int(np.random.default_rng((self.seed, stream, block)).permutation(length)[place])

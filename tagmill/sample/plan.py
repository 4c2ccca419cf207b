"""What a catalog holds at each index, known without drawing anything."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.random import Generator

from tagmill.sample.files import FileFormat
from tagmill.sample.item import CATEGORIES

#: raised whenever the same seed draws other bytes
VERSION = 1

#: each run of five images has these formats, in any order
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

    #: images that can be read
    images: int
    seed: int
    #: files that cannot, after the readable ones by index
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
        """Return what stands at an index, 0 <= index < total."""
        key = f"item-{index:06d}"
        if index >= self.images:
            return PlannedItem(index, key, f"broken/{key}.jpg", "", "")
        category = CATEGORIES[self._shuffled(index, len(CATEGORIES), 1)]
        ending = FORMATS[self._shuffled(index, len(FORMATS), 2)]
        return PlannedItem(
            index, key, f"images/{category}/{key}.{ending}", category, f"masks/{category}/{key}.png", ending
        )

    def generator(self, index: int) -> Generator:
        """Return the random generator that draws one index and no other."""
        return np.random.default_rng((self.seed, 0, index))

    def rows(self) -> Iterator[PlannedItem]:
        """Yield every item once, in the manifest's order: steps of 0.62 of the total scatter without a list."""
        if not self.total:
            return
        step = max(1, round(self.total * 0.618))
        while math.gcd(step, self.total) > 1:
            step += 1
        for position in range(self.total):
            yield self.item((self.seed + position * step) % self.total)

    def _shuffled(self, index: int, length: int, stream: int) -> int:
        """Return the index's place in a shuffle of its block of `length` indices."""
        block, place = divmod(index, length)
        return int(np.random.default_rng((self.seed, stream, block)).permutation(length)[place])

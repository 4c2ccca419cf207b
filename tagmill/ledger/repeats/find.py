"""Find the entries of a run that repeat the uri of an earlier one, in flat memory."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tagmill.spool.duplicates import Duplicates
from tagmill.spool.partitions import PARTS, Partitions, Records

#: a repeated entry and the first one with its uri
_PAIR = np.dtype([("position", np.uint32), ("first", np.uint32)])


class RepeatedEntries:
    """The uris of a run. Call `add` for all entries in their order, then `find`, and then the others.

    Hashes are in temporary files. Raise ConfigurationError if the disk is full.
    """

    def __init__(self) -> None:
        self._uris = Duplicates()
        self._pairs = Partitions(_PAIR)
        #: positions that one part of `_pairs` stands for
        self._width = 1

    @property
    def entries(self) -> int:
        """The number of entries that were added."""
        return self._uris.count

    def add(self, uris: Sequence[str]) -> None:
        """Add the uris of the next entries, thousands at a time."""
        self._uris.add(uris)

    def find(self) -> int:
        """Return the number of entries that repeat an earlier one."""
        self._width = max(1, -(-self._uris.count // PARTS))
        found = 0
        for numbers, firsts in self._uris.find():
            pairs = np.empty(len(numbers), _PAIR)
            pairs["position"], pairs["first"] = numbers, firsts
            self._pairs.add(pairs, (numbers // self._width).astype(np.uint8))
            found += len(numbers)
        return found

    def firsts(self) -> Iterator[int]:
        """Yield the positions of the entries that repeat nothing, in order."""
        for part, start in enumerate(range(0, self._uris.count, self._width)):
            positions: NDArray[np.int64] = np.arange(start, min(start + self._width, self._uris.count))
            first = np.ones(len(positions), bool)
            first[self._part(part)["position"] - start] = False
            yield from positions[first].tolist()

    def repeats(self) -> Iterator[tuple[int, int]]:
        """Yield the position of each entry that repeats an earlier one, in order, with that of the first."""
        for part in range(PARTS):
            pairs = self._part(part)
            yield from pairs[np.argsort(pairs["position"])].tolist()

    def close(self) -> None:
        """Delete the files."""
        self._uris.close()
        self._pairs.close()

    def _part(self, part: int) -> Records:
        return np.concatenate([np.empty(0, _PAIR), *self._pairs.read(part)])

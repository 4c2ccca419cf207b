"""Find texts that come more than once among millions, in flat memory."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tagmill.spool.partitions import PARTS, Partitions

#: records that are compared at a time
PORTION = 2**15
#: 96 bits stand for a text. Python's hash of a text has a random key, so nobody can make two texts with the same one.
#: The chance that two of ten million different texts share all bits is 1 in 10^15.
_RECORD = np.dtype([("hash", np.uint64), ("check", np.uint32), ("number", np.uint32)])


class Repeats(NamedTuple):
    """The numbers of texts that came before, and for each the number of the first text that is equal."""

    numbers: NDArray[np.uint32]
    firsts: NDArray[np.uint32]


class Duplicates:
    """Texts, numbered from 0 in the order in which they are added. Only their hashes are kept, 16 bytes each, on disk.

    Memory depends neither on their number nor on how often one is repeated. Raise ConfigurationError if the disk is
    full.
    """

    def __init__(self) -> None:
        self._records = Partitions(_RECORD)
        #: texts that were added
        self.count = 0

    def add(self, texts: Sequence[str]) -> None:
        """Add texts, thousands at a time."""
        count = len(texts)
        records = np.empty(count, _RECORD)
        hashes = np.fromiter(map(hash, texts), np.int64, count).view(np.uint64)
        records["hash"] = hashes
        records["check"] = np.fromiter(map(_check, texts), np.uint32, count)
        records["number"] = np.arange(self.count, self.count + count, dtype=np.uint32)
        self._records.add(records, (hashes % np.uint64(PARTS)).astype(np.uint8))
        self.count += count

    def find(self) -> Iterator[Repeats]:
        """Yield every text that came before, in no order, at most `PORTION` at a time."""
        for part in range(PARTS):
            known = np.empty(0, _RECORD)
            for portion in self._records.read(part, PORTION):
                records = np.concatenate([known, portion])
                # Stable: of equal texts the first that was added stays first.
                records = records[np.lexsort((records["check"], records["hash"]))]
                new = np.ones(len(records), bool)
                new[1:] = (records["hash"][1:] != records["hash"][:-1]) | (
                    records["check"][1:] != records["check"][:-1]
                )
                groups = np.cumsum(new) - 1
                known = records[new]
                if len(known) < len(records):
                    yield Repeats(records["number"][~new], known["number"][groups[~new]])

    def close(self) -> None:
        """Delete the file."""
        self._records.close()


def _check(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"))

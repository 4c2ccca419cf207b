"""Records on the disk, in parts that are read one after the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.spool.temporary_file import TemporaryFile

#: parts of the records
PARTS = 256

#: records of one type, as a structured array
Records = NDArray[Any]


class Partitions:
    """Records of one NumPy type, in `PARTS` parts. In a part they have the order in which they were added.

    Raise ConfigurationError if the folder for temporary files is full.
    """

    def __init__(self, kind: np.dtype[Any]) -> None:
        self._kind = kind
        self._file = TemporaryFile()
        #: for each call of `add` the offset of its records in the file, sorted by part, and where each part begins
        self._blocks: list[tuple[int, NDArray[np.uint32]]] = []

    def add(self, records: Records, parts: NDArray[np.uint8]) -> None:
        """Add records with the part of each."""
        order = np.argsort(parts, kind="stable")
        ends = np.cumsum(np.bincount(parts, minlength=PARTS), dtype=np.uint32)
        starts = np.concatenate([np.zeros(1, np.uint32), ends])
        self._blocks.append((self._file.append(records[order].tobytes()), starts))

    def read(self, part: int, portion: int | None = None) -> Iterator[Records]:
        """Yield the records of a part in the order in which they were added: all, or about `portion` at a time."""
        size, pieces, waiting = self._kind.itemsize, [], 0
        for offset, starts in self._blocks:
            first, last = int(starts[part]), int(starts[part + 1])
            if first == last:
                continue
            pieces.append(self._file.read(offset + first * size, (last - first) * size))
            waiting += last - first
            if portion is not None and waiting >= portion:
                yield np.frombuffer(b"".join(pieces), self._kind)
                pieces, waiting = [], 0
        if pieces:
            yield np.frombuffer(b"".join(pieces), self._kind)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

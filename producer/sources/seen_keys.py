"""Find image keys that come twice among millions, in flat memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from producer.sources.base import Problem, shorten
from tagmill.spool.duplicates import Duplicates
from tagmill.spool.temporary_file import TemporaryFile

#: keys that are kept in memory, and then written together
BLOCK = 2**13
#: bits of the number of a line, below those of the number of a source
_LINE_BITS = 40


class SeenKeys:
    """The image keys read so far, each with its place. What comes twice is known once all were read.

    Hashes, keys and places are in temporary files, about 24 bytes and the key itself for each. Raise ConfigurationError
    if the disk is full.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._duplicates = Duplicates()
        self._file = TemporaryFile()
        self._blocks: list[_Block] = []
        self._keys: list[str] = []
        self._places: list[int] = []

    def add(self, image_key: str, source: int, line: int) -> None:
        """Remember a key, which SQL can store, and where it was read; `line` is 0 in a source without lines."""
        self._keys.append(image_key)
        self._places.append(source << _LINE_BITS | line)
        if len(self._keys) == BLOCK:
            self._write()

    def problems(self, most: int) -> tuple[list[Problem], int]:
        """Return the first problems, at most `most`, and the number of keys that came before."""
        if self._keys:
            self._write()
        count, first = 0, np.empty((0, 2), np.uint32)
        for numbers, firsts in self._duplicates.find():
            count += len(numbers)
            found = np.concatenate([first, np.stack([numbers, firsts], axis=1)])
            first = found[np.argsort(found[:, 0])[:most]]
        return [self._problem(number, earlier) for number, earlier in first.tolist()], count

    def place(self, source: int, line: int) -> str:
        """Return FILE:LINE, or just the source if it has no lines."""
        return f"{self._sources[source]}:{line}" if line else self._sources[source]

    def close(self) -> None:
        """Delete the files."""
        self._duplicates.close()
        self._file.close()

    def _write(self) -> None:
        self._duplicates.add(self._keys)
        encoded = [key.encode() for key in self._keys]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.uint32, len(encoded)), dtype=np.uint32)
        head = np.array(self._places, np.uint64).tobytes() + ends.tobytes()
        self._blocks.append(_Block(self._file.append(head + b"".join(encoded)), len(encoded), int(ends[-1])))
        self._keys, self._places = [], []

    def _problem(self, number: int, earlier: int) -> Problem:
        image_key, place = self._read(number)
        message = f"image_key {shorten(image_key)} is already in {self._read(earlier)[1]}"
        if not image_key.isascii():
            message += "; keys that look the same are the same"
        return Problem(place, message)

    def _read(self, number: int) -> tuple[str, str]:
        """Return a key and its place."""
        block, at = self._blocks[number // BLOCK], number % BLOCK
        data = self._file.read(block.offset, 12 * block.keys + block.bytes)
        places: NDArray[np.uint64] = np.frombuffer(data, np.uint64, block.keys)
        ends: NDArray[np.uint32] = np.frombuffer(data, np.uint32, block.keys, 8 * block.keys)
        start = int(ends[at - 1]) if at else 0
        key = data[12 * block.keys :][start : int(ends[at])].decode()
        place = int(places[at])
        return key, self.place(place >> _LINE_BITS, place & (1 << _LINE_BITS) - 1)


class _Block(NamedTuple):
    """Where keys are in the file: their places, where each key ends, and the keys."""

    offset: int
    keys: int
    #: of all keys
    bytes: int

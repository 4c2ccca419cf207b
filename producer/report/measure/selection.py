"""Choose the images that a page shows of a run that has more."""

import hashlib
import heapq
from collections.abc import Collection
from dataclasses import dataclass

#: of the images that are shown, the most that failed, that are the least certain, and that are wrong
FAILED, UNCERTAIN, WRONG = 0.1, 0.2, 0.2


class _Smallest:
    """The positions with the smallest ranks, at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int]] = []

    def add(self, rank: float, position: int) -> None:
        """Keep a position if its rank is among the smallest."""
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (-rank, -position))
        elif self._most and (-rank, -position) > self._heap[0]:
            heapq.heapreplace(self._heap, (-rank, -position))

    def positions(self) -> list[int]:
        """Return them, the smallest rank first."""
        return [-position for _, position in sorted(self._heap, reverse=True)]


@dataclass(frozen=True)
class Selected:
    """The positions of the images that are shown, and how many of them are there for which reason."""

    positions: Collection[int]
    failed: int
    uncertain: int
    wrong: int
    drawn: int
    #: whether all images are shown
    everything: bool


class Selection:
    """Images that failed, that are wrong, that are the least certain, and images drawn at random, in flat memory.

    The same run, limit and seed choose the same images.
    """

    def __init__(self, limit: int, seed: int) -> None:
        self._limit, self._seed = limit, seed.to_bytes(8, "little", signed=True)
        self._seen = 0
        self._failed, self._uncertain = _Smallest(int(limit * FAILED)), _Smallest(int(limit * UNCERTAIN))
        self._wrong, self._drawn = _Smallest(int(limit * WRONG)), _Smallest(limit)

    def add(self, position: int, certainty: float | None, *, failed: bool, wrong: bool) -> None:
        """Add an image; `certainty` is the least of its models."""
        self._seen += 1
        rank = self._random(position)
        self._drawn.add(rank, position)
        if failed:
            self._failed.add(rank, position)
        if wrong:
            self._wrong.add(rank, position)
        if certainty is not None:
            self._uncertain.add(certainty, position)

    def chosen(self) -> Selected:
        """Return the images to show."""
        everything = self._seen <= self._limit
        chosen: set[int] = set()
        counts = []
        for kind in (self._failed, self._wrong, self._uncertain):
            before = len(chosen)
            chosen.update([] if everything else kind.positions())
            counts.append(len(chosen) - before)
        before = len(chosen)
        for position in self._drawn.positions():
            if len(chosen) >= self._limit:
                break
            chosen.add(position)
        failed, wrong, uncertain = counts
        return Selected(chosen, failed, uncertain, wrong, len(chosen) - before, everything)

    def _random(self, position: int) -> float:
        digest = hashlib.blake2b(position.to_bytes(8, "little"), digest_size=8, key=self._seed).digest()
        return int.from_bytes(digest, "little") / 2**64

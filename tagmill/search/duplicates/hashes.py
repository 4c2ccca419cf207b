"""Images whose perceptual hashes differ by few bits, found without comparing all with all.

A hash of 64 bits is cut into four bands of 16. Of two hashes that differ by at most 7 bits, one band differs by at most
one bit, so candidates share a bucket of a band, or are in neighboring ones (Norouzi, Punjani and Fleet 2012, Fast
search in Hamming space with multi-index hashing).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: bits of a band, and bands
BITS, BANDS = 16, 4
#: most bits by which the hashes of a pair differ: each band is looked up with no and with one wrong bit
REACH = 2 * BANDS - 1
#: candidates that are compared at a time: 64 MB
CHUNK = 4_000_000

Hashes = NDArray[np.uint64]
#: numbers of two images, and by how many bits they differ
Near = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]


def distances(one: Hashes, other: Hashes) -> NDArray[np.int16]:
    """Return by how many bits hashes [N] differ from hashes [N]."""
    bits: NDArray[np.int16] = np.bitwise_count(one ^ other).astype(np.int16)
    return bits


def near_pairs(one: Hashes, other: Hashes) -> Iterator[Near]:
    """Yield the places i in `one` and j in `other` whose hashes differ by at most 7 bits, in chunks.

    Both are sorted and have each hash once. A pair may come several times.
    """
    for band in range(BANDS):
        mine, yours = _band(one, band), _band(other, band)
        order = np.argsort(yours, kind="stable")
        buckets = yours[order]
        for flipped in (0, *(1 << bit for bit in range(BITS))):
            wanted = mine ^ np.uint16(flipped)
            start = np.searchsorted(buckets, wanted, "left")
            count = np.searchsorted(buckets, wanted, "right") - start
            for begin, end in _chunks(count):
                yield _compared(one, other, order, start[begin:end], count[begin:end], begin)


def _band(hashes: Hashes, band: int) -> NDArray[np.uint16]:
    return (hashes >> np.uint64(BITS * band)).astype(np.uint16)


def _chunks(count: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of places with at most `CHUNK` candidates together, or of a single place."""
    total = np.cumsum(count)
    begin = 0
    while begin < len(count):
        before = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + CHUNK, "right")))
        if total[end - 1] > before:
            yield begin, end
        begin = end


def _compared(
    one: Hashes,
    other: Hashes,
    order: NDArray[np.int64],
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    begin: int,
) -> Near:
    places = np.repeat(np.arange(begin, begin + len(count)), count)
    within = np.arange(len(places)) - np.repeat(np.cumsum(count) - count, count)
    found = order[np.repeat(start, count) + within]
    away = distances(one[places], other[found])
    near = away <= REACH
    return places[near], found[near], away[near]

"""Find duplicate image keys among millions, in little memory."""

from collections.abc import Sequence
from hashlib import blake2b


class SeenKeys:
    """The image keys read so far, each with the place where it was first read.

    Keeps 80 bits of hash and 64 bits of place per key in 65 536 byte strings: about 20 bytes a key, against 150 in a
    set of strings. The chance that two of ten million different keys share their 80 bits is 1 in 2 * 10^10.
    """

    _TAIL, _PLACE = 8, 8

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._buckets = [bytearray() for _ in range(2**16)]

    def first_place(self, image_key: str, source: int, line: int) -> str | None:
        """Return where the key was first read. Remember it and return None if it is new."""
        digest = blake2b(image_key.encode(), digest_size=2 + self._TAIL).digest()
        bucket, tail = self._buckets[int.from_bytes(digest[:2])], digest[2:]
        at = bucket.find(tail)
        while at >= 0 and at % (self._TAIL + self._PLACE):  # a match that spans two records is not a record
            at = bucket.find(tail, at + 1)
        if at < 0:
            bucket += tail + (source << 40 | line).to_bytes(self._PLACE)
            return None
        place = int.from_bytes(bucket[at + self._TAIL : at + self._TAIL + self._PLACE])
        return self.place(place >> 40, place & (1 << 40) - 1)

    def place(self, source: int, line: int) -> str:
        """Return FILE:LINE, or just the source if it has no lines."""
        return f"{self._sources[source]}:{line}" if line else self._sources[source]

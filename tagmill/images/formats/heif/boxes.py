"""Boxes of the ISO base media file format (ISO/IEC 14496-12), read and written with strict lengths."""

import struct
from collections.abc import Iterator

from tagmill.outcomes import ErrorCode, ImageFailure

#: boxes on one level; files have about ten
_MAX_BOXES = 100_000
#: type and body
Box = tuple[bytes, memoryview]


class Fields:
    """Reads the fields of a body one after the other, big-endian. Raises ImageFailure where it ends."""

    def __init__(self, body: memoryview, skip: int = 0) -> None:
        """`skip` is the number of bytes before the first field."""
        self._body = body
        self._offset = skip

    def uint(self, size: int) -> int:
        """Return the next integer of `size` bytes; 0 for a field of no bytes."""
        return int.from_bytes(self.take(size))

    def uints(self, count: int, size: int) -> tuple[int, ...]:
        """Return the next `count` integers of 2 or 4 bytes."""
        return struct.unpack(f">{count}{'H' if size == 2 else 'I'}", self.take(count * size))

    def take(self, length: int) -> memoryview:
        """Return the next bytes."""
        end = self._offset + length
        if end > len(self._body):
            raise ImageFailure(ErrorCode.CORRUPT, "a box of the file is shorter than its fields")
        taken = self._body[self._offset : end]
        self._offset = end
        return taken

    def rest(self) -> memoryview:
        """Return all bytes that were not read."""
        return self._body[self._offset :]


def full_box(body: memoryview) -> tuple[int, int, Fields]:
    """Return version and flags of a full box, and the fields after them."""
    fields = Fields(body)
    return fields.uint(1), fields.uint(3), fields


def boxes(body: memoryview) -> Iterator[Box]:
    """Yield type and body of each box. Raises ImageFailure for one that reaches over the end."""
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset + 8 > len(body):
            return
        kind, start, end = _bounds(body, offset)
        if not start <= end <= len(body):
            raise ImageFailure(ErrorCode.CORRUPT, f"the box {kind!r} has an impossible length")
        yield kind, body[start:end]
        offset = end
    raise ImageFailure(ErrorCode.CORRUPT, f"the file has over {_MAX_BOXES} boxes on one level")


def first_boxes(body: memoryview) -> dict[bytes, memoryview]:
    """Return the first box of each type."""
    found: dict[bytes, memoryview] = {}
    for kind, content in boxes(body):
        found.setdefault(kind, content)
    return found


def file_boxes(data: bytes, wanted: frozenset[bytes]) -> dict[bytes, memoryview]:
    """Return the first whole box of each wanted type. What follows the last whole box may be anything.

    Raises ImageFailure if there is none of them.
    """
    found: dict[bytes, memoryview] = {}
    view = memoryview(data)
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset + 8 > len(data):
            break
        kind, start, end = _bounds(view, offset)
        if not start <= end <= len(data):
            break
        if kind in wanted:
            found.setdefault(kind, view[start:end])
        offset = end
    if not found:
        code = ErrorCode.TRUNCATED if offset < len(data) else ErrorCode.CORRUPT
        raise ImageFailure(code, "the file ends before it describes an image")
    return found


def written(kind: bytes, *parts: bytes | memoryview) -> bytes:
    """Return a box."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _bounds(body: memoryview, offset: int) -> tuple[bytes, int, int]:
    """Return type, start of the content and end of the box at `offset`, of which 8 bytes are there."""
    size, kind = struct.unpack_from(">I4s", body, offset)
    if size == 1 and offset + 16 <= len(body):
        return kind, offset + 16, offset + struct.unpack_from(">Q", body, offset + 8)[0]
    return kind, offset + 8, len(body) if size == 0 else offset + size

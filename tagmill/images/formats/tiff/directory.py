"""Read the tags of a TIFF or BigTIFF that pixels depend on; all others are never looked at."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from tagmill.outcomes import ErrorCode, ImageFailure

#: numbers of a tag; the largest image in tiles of 16x16 has fewer offsets
_MAX_NUMBERS = 500_000
#: entries of a directory, one for each of the 16-bit tags
_MAX_ENTRIES = 1 << 16
#: types of whole numbers and their struct format: BYTE, SHORT, LONG, IFD, and LONG8 and IFD8 of a BigTIFF
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
#: types whose values are bytes: BYTE, UNDEFINED
_BYTES = frozenset({1, 7})
#: raised by `struct` for offsets beyond the end of the file
_BEYOND_END = (struct.error, OverflowError)


class _Entry(NamedTuple):
    """One entry of a directory. `field` holds the values, or their offset if they do not fit."""

    tag: int
    kind: int
    values: int
    field: bytes


class Directory:
    """The first directory of a file. Tags are read on demand; each method raises ImageFailure for a damaged one."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        #: struct's sign for the byte order
        self.order = _byte_order(data)
        try:
            entries, self.next = _entries(data, _first_directory(data))
        except _BEYOND_END as error:
            raise ImageFailure(ErrorCode.TRUNCATED, "the TIFF ends before its list of tags") from error
        self._entries: dict[int, list[_Entry]] = {}
        for entry in entries:
            self._entries.setdefault(entry.tag, []).append(entry)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def number(self, tag: int, default: int) -> int:
        """Return the first of a tag's whole numbers."""
        return self.numbers(tag, (default,))[0]

    def numbers(self, tag: int, default: Iterable[int] = ()) -> tuple[int, ...]:
        """Return a tag's whole numbers, or the default if it is missing."""
        entry = self._only(tag)
        if entry is None:
            return tuple(default)
        form = _INTEGERS.get(entry.kind)
        if form is None or entry.values < 1:
            raise ImageFailure(ErrorCode.CORRUPT, f"tag {tag} of the TIFF is no whole number")
        if entry.values > _MAX_NUMBERS:
            raise ImageFailure(ErrorCode.CORRUPT, f"tag {tag} of the TIFF has {entry.values} values")
        raw = self._raw(entry, struct.calcsize(form))
        return struct.unpack(f"{self.order}{entry.values}{form}", raw)

    def bytes_of(self, tag: int) -> bytes:
        """Return a tag's bytes, or none if it is missing or of another type."""
        entry = self._only(tag)
        return self._raw(entry, 1) if entry and entry.kind in _BYTES else b""

    def metadata(self, tag: int) -> bytes:
        """Return the bytes of a tag that no pixel depends on, or none if it is missing or damaged."""
        try:
            return self.bytes_of(tag)
        except ImageFailure:
            return b""

    def orientation(self) -> int:
        """Return the EXIF orientation 1..8, or 1 if there is none or it is damaged."""
        try:
            value = self.number(274, 1)
        except ImageFailure:
            return 1
        return value if 1 <= value <= 8 else 1

    def _only(self, tag: int) -> _Entry | None:
        """Return the entry of a tag. Libraries differ in which one they read of a tag that occurs twice."""
        entries = self._entries.get(tag)
        if entries and len(set(entries)) > 1:
            raise ImageFailure(ErrorCode.CORRUPT, f"tag {tag} of the TIFF occurs with different values")
        return entries[0] if entries else None

    def _raw(self, entry: _Entry, size: int) -> bytes:
        length = size * entry.values
        if length <= len(entry.field):
            return entry.field[:length]
        (start,) = struct.unpack(self.order + ("Q" if len(entry.field) == 8 else "I"), entry.field)
        if start + length > len(self.data):
            raise ImageFailure(ErrorCode.TRUNCATED, f"the TIFF ends before its tag {entry.tag}")
        return self.data[start : start + length]


def count_pages(data: bytes, limit: int) -> int:
    """Return the number of pages without reading their contents; counting stops at `limit` + 1."""
    seen: set[int] = set()
    offset = _first_directory(data)
    while offset and offset not in seen and len(seen) <= limit:
        try:
            _, following = _entries(data, offset)
        except (*_BEYOND_END, ImageFailure):
            break  # `Directory` has checked the first page, and no other is decoded
        seen.add(offset)
        offset = following
    return len(seen)


def _is_bigtiff(data: bytes) -> bool:
    return data[2:4] in (b"+\0", b"\0+")


def _byte_order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _first_directory(data: bytes) -> int:
    """Return the offset of the first directory. Raises one of _BEYOND_END."""
    form, offset = ("Q", 8) if _is_bigtiff(data) else ("I", 4)
    return int(struct.unpack_from(_byte_order(data) + form, data, offset)[0])


def _entries(data: bytes, offset: int) -> tuple[list[_Entry], int]:
    """Return the entries of the directory at `offset`, and the offset of the next one. Raises one of _BEYOND_END."""
    count, entry, following = ("Q", "HHQ8s", "Q") if _is_bigtiff(data) else ("H", "HHI4s", "I")
    order = _byte_order(data)
    (entries,) = struct.unpack_from(order + count, data, offset)
    if entries > _MAX_ENTRIES:
        raise ImageFailure(ErrorCode.CORRUPT, f"the TIFF announces {entries} tags")
    start = offset + struct.calcsize(order + count)
    end = start + entries * struct.calcsize(order + entry)
    (following,) = struct.unpack_from(order + following, data, end)
    return [_Entry(*values) for values in struct.iter_unpack(order + entry, data[start:end])], following

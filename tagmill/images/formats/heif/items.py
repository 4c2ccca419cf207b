"""The items of a HEIF file: what its meta box says about them (ISO/IEC 23008-12, section 9; 14496-12, section 8.11)."""

from dataclasses import dataclass, field
from typing import NamedTuple

from tagmill.images.formats.heif.boxes import Fields, boxes, first_boxes, full_box
from tagmill.outcomes import ErrorCode, ImageFailure

#: items of a file; 100,000,000 pixels in tiles of 256 are 1,526
_MAX_ITEMS = 10_000
#: pieces of all items together; nearly all items are of one piece
_MAX_EXTENTS = 100_000
_FROM_FILE, _FROM_IDAT = 0, 1


class Property(NamedTuple):
    """What is said about an item."""

    kind: bytes
    body: memoryview
    #: a reader that does not know it must not read the item
    is_essential: bool


class Location(NamedTuple):
    """Where an item's data lies: in the file or in the box idat, as offset and length of each piece."""

    method: int
    extents: tuple[tuple[int, int], ...]


@dataclass
class Items:
    """The items, by their ids."""

    file: memoryview
    idat: memoryview
    primary: int | None = None
    kinds: dict[int, bytes] = field(default_factory=dict)
    locations: dict[int, Location] = field(default_factory=dict)
    properties: dict[int, list[Property]] = field(default_factory=dict)
    #: the items that an item refers to, by type of reference and item
    references: dict[tuple[bytes, int], tuple[int, ...]] = field(default_factory=dict)

    def data(self, item: int) -> bytes:
        """Return the data of an item. Raises ImageFailure, with TRUNCATED if the file ends before it."""
        location = self.locations.get(item)
        if location is None or not location.extents:
            raise ImageFailure(ErrorCode.CORRUPT, "an item of the image has no data")
        source = self.file if location.method == _FROM_FILE else self.idat
        parts = []
        for offset, length in location.extents:
            end = offset + length if length else len(source)
            if end > len(source):
                code = ErrorCode.TRUNCATED if location.method == _FROM_FILE else ErrorCode.CORRUPT
                raise ImageFailure(code, f"the image's data ends at byte {end} of {len(source)}")
            parts.append(source[offset:end])
        if sum(len(part) for part in parts) > len(self.file):
            raise ImageFailure(ErrorCode.CORRUPT, "the pieces of an item overlap")
        return b"".join(parts)


def read_items(meta: memoryview, file: memoryview) -> Items:
    """Read the body of the meta box. Raises ImageFailure."""
    parts = first_boxes(meta[4:])
    items = Items(file, parts.get(b"idat", memoryview(b"")))
    if b"pitm" in parts:
        version, _, fields = full_box(parts[b"pitm"])
        items.primary = fields.uint(2 if version == 0 else 4)
    if b"iinf" in parts:
        items.kinds = _kinds(parts[b"iinf"])
    if b"iloc" in parts:
        items.locations = _locations(parts[b"iloc"])
    if b"iprp" in parts:
        items.properties = _properties(parts[b"iprp"])
    if b"iref" in parts:
        version, _, fields = full_box(parts[b"iref"])
        for kind, body in boxes(fields.rest()):
            size = 2 if version == 0 else 4
            reference = Fields(body)
            source, count = reference.uint(size), reference.uint(2)
            items.references.setdefault((kind, source), reference.uints(count, size))
    return items


def _kinds(iinf: memoryview) -> dict[int, bytes]:
    version, _, fields = full_box(iinf)
    fields.uint(2 if version == 0 else 4)
    kinds: dict[int, bytes] = {}
    for kind, body in boxes(fields.rest()):
        if kind == b"infe":
            version, _, entry = full_box(body)
            if version < 2:  # items of these versions have no type, so none is an image
                continue
            item = entry.uint(2 if version == 2 else 4)
            entry.uint(2)
            kinds[item] = bytes(entry.take(4))
    _check_count(len(kinds))
    return kinds


def _locations(iloc: memoryview) -> dict[int, Location]:
    version, _, fields = full_box(iloc)
    sizes = fields.uint(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    count = fields.uint(2 if version < 2 else 4)
    _check_count(count)
    locations: dict[int, Location] = {}
    extents_left = _MAX_EXTENTS
    for _ in range(count):
        item = fields.uint(2 if version < 2 else 4)
        method = fields.uint(2) & 15 if version else _FROM_FILE
        reference = fields.uint(2)
        base = fields.uint(base_size)
        pieces = fields.uint(2)
        extents_left -= pieces
        if extents_left < 0:
            raise ImageFailure(ErrorCode.CORRUPT, f"the items have over {_MAX_EXTENTS} pieces")
        extents = []
        for _ in range(pieces):
            fields.uint(index_size if version else 0)
            extents.append((base + fields.uint(offset_size), fields.uint(length_size)))
        if reference == 0 and method in {_FROM_FILE, _FROM_IDAT}:
            locations[item] = Location(method, tuple(extents))
    return locations


def _properties(iprp: memoryview) -> dict[int, list[Property]]:
    known: list[tuple[bytes, memoryview]] = []
    found: dict[int, list[Property]] = {}
    for kind, body in boxes(iprp):
        if kind == b"ipco":
            known += boxes(body)
        elif kind == b"ipma":
            _associate(body, known, found)
    return found


def _associate(ipma: memoryview, known: list[tuple[bytes, memoryview]], found: dict[int, list[Property]]) -> None:
    version, flags, fields = full_box(ipma)
    count = fields.uint(4)
    _check_count(count)
    size = 2 if flags & 1 else 1
    for _ in range(count):
        properties = found.setdefault(fields.uint(2 if version == 0 else 4), [])
        for _ in range(fields.uint(1)):
            value = fields.uint(size)
            is_essential, index = value >> 8 * size - 1, value & (1 << 8 * size - 1) - 1
            if index > len(known):
                raise ImageFailure(ErrorCode.CORRUPT, "an item has a property that is not there")
            if index:
                properties.append(Property(*known[index - 1], bool(is_essential)))


def _check_count(count: int) -> None:
    if count > _MAX_ITEMS:
        raise ImageFailure(ErrorCode.CORRUPT, f"the file has over {_MAX_ITEMS} items")

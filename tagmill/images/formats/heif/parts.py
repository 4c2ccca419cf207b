"""The parts of a file that pixels depend on, and a file of these parts alone, which is what the decoders get to see."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tagmill.images.formats.heif.boxes import full_box, written
from tagmill.images.formats.heif.items import Property
from tagmill.outcomes import ErrorCode, ImageFailure

#: what is kept of a coded image: the decoder's configuration, size, bit depth, kind of an auxiliary image, layers
_KEPT = frozenset({b"av1C", b"hvcC", b"ispe", b"pixi", b"auxC", b"a1op", b"a1lx", b"lsel"})
_BRANDS = {b"av01": b"avif", b"hvc1": b"heic"}


@dataclass(frozen=True)
class Part:
    """A coded image (av01, hvc1) or a grid of them."""

    kind: bytes
    data: bytes
    properties: list[Property]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that it announces, before it is cropped or rotated. Raises ImageFailure if there is none."""
        _, _, fields = full_box(self.body(b"ispe"))
        return fields.uint(4), fields.uint(4)

    def body(self, kind: bytes) -> memoryview:
        """Return the body of its property of a kind. Raises ImageFailure if it has none."""
        found = next((found.body for found in self.properties if found.kind == kind), None)
        if found is None:
            raise ImageFailure(ErrorCode.CORRUPT, f"an item of the image has no property {kind.decode()!a}")
        return found


@dataclass
class Parts:
    """The image, and the tiles and alpha that it is made of."""

    #: the first is the image itself
    all: list[Part] = field(default_factory=list)
    #: the tiles of a grid, by its index
    tiles: dict[int, tuple[int, ...]] = field(default_factory=dict)
    #: the alpha of a part, by the index of the part
    alphas: dict[int, int] = field(default_factory=dict)
    #: parts whose colors are multiplied by their alpha already
    premultiplied: set[int] = field(default_factory=set)

    @property
    def codec(self) -> bytes:
        """The type of the coded images."""
        return next(part.kind for part in self.all if part.kind != b"grid")

    def colors(self, index: int) -> list[Property]:
        """Return the properties that name the colors of a part: its own, or those of its first tile."""
        candidates = (index, *self.tiles.get(index, ())[:1])
        described = ([found for found in self.all[place].properties if found.kind == b"colr"] for place in candidates)
        return next(filter(None, described), [])

    def references(self) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
        """Yield type, index of the part that refers, and indices of those that it refers to."""
        for index, tiles in self.tiles.items():
            yield b"dimg", index, tiles
        for index, alpha in self.alphas.items():
            yield b"auxl", alpha, (index,)
            if index in self.premultiplied:
                yield b"prem", index, (alpha,)


def write_file(parts: Parts) -> bytes:
    """Return a file of the parts, without metadata, color profile and rotation."""
    brand = _BRANDS[parts.codec]
    head = written(b"ftyp", brand, bytes(4), b"mif1miaf", brand)
    offsets, length = {}, 0
    for part in parts.all:
        if part.data not in offsets:  # equal tiles often share their data
            offsets[part.data] = length
            length += len(part.data)
    # Offsets have a fixed length, so the meta box has the same length with other offsets.
    start = len(head) + len(_meta(parts, offsets, 0)) + 8
    return b"".join([head, _meta(parts, offsets, start), written(b"mdat", *offsets)])


def _meta(parts: Parts, offsets: dict[bytes, int], start: int) -> bytes:
    """Return the meta box of a file in which the first data begins at `start`."""
    entries, infos = b"", b""
    for number, part in enumerate(parts.all, 1):
        entries += struct.pack(">HHHHII", number, 0, 0, 1, start + offsets[part.data], len(part.data))
        is_hidden = number > 1  # tiles and alpha are no images of their own
        infos += written(b"infe", struct.pack(">IHH4sB", 2 << 24 | is_hidden, number, 0, part.kind, 0))
    count = struct.pack(">H", len(parts.all))
    references = b"".join(
        written(kind, struct.pack(f">{2 + len(targets)}H", source + 1, len(targets), *(to + 1 for to in targets)))
        for kind, source, targets in parts.references()
    )
    return written(
        b"meta",
        bytes(4),
        written(b"hdlr", bytes(8), b"pict", bytes(13)),
        written(b"pitm", bytes(4), struct.pack(">H", 1)),
        written(b"iloc", b"\1\0\0\0\x44\0", count, entries),
        written(b"iinf", bytes(4), count, infos),
        written(b"iref", bytes(4), references) if references else b"",
        _properties(parts),
    )


def _properties(parts: Parts) -> bytes:
    """Return the box iprp, in which equal properties of several parts stand once."""
    places: dict[bytes, int] = {}
    entries = b""
    for number, part in enumerate(parts.all, 1):
        kept = [found for found in part.properties if _is_kept(found)]
        entries += struct.pack(">HB", number, len(kept))
        for found in kept:
            place = places.setdefault(written(found.kind, found.body), len(places) + 1)
            entries += struct.pack(">H", place | found.is_essential << 15)
    association = written(b"ipma", struct.pack(">II", 1, len(parts.all)), entries)
    return written(b"iprp", written(b"ipco", *places), association)


def _is_kept(found: Property) -> bool:
    return found.kind in _KEPT or (found.kind == b"colr" and bytes(found.body[:4]) == b"nclx")

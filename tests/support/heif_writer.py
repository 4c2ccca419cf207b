"""Write AVIF and HEIC files box by box around coded data, with what encoders rarely or never write."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

#: type, body, and whether it is essential
Extra = tuple[bytes, bytes, bool]
ALPHA = bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


@dataclass(frozen=True)
class Coded:
    """A coded image: `kind` av01 or hvc1, the body of its configuration box, and its data."""

    kind: bytes
    config: bytes
    data: bytes
    width: int
    height: int

    @property
    def properties(self) -> list[Extra]:
        name = {b"av01": b"av1C", b"hvc1": b"hvcC"}[self.kind]
        return [(b"ispe", bytes(4) + struct.pack(">II", self.width, self.height), False), (name, self.config, True)]


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def coded(file: bytes) -> Coded:
    """Return the image of a file of one image, without alpha and metadata, as Pillow and pillow-heif write it."""
    kind, name = (b"av01", b"av1C") if b"av1C" in file else (b"hvc1", b"hvcC")
    size = file.index(b"ispe") + 8
    return Coded(kind, _body(file, name), _body(file, b"mdat"), *struct.unpack_from(">II", file, size))


def _body(file: bytes, kind: bytes) -> bytes:
    start = file.index(kind)
    return file[start + 4 : start - 4 + struct.unpack_from(">I", file, start - 4)[0]]


@dataclass(frozen=True)
class Item:
    kind: bytes
    data: bytes
    properties: Sequence[Extra]


def still(image: Coded, *extra: Extra) -> bytes:
    """Return a file of one image with further properties, in their order."""
    return container([Item(image.kind, image.data, [*image.properties, *extra])])


def grid(tiles: Sequence[Coded], columns: int, size: tuple[int, int], *extra: Extra) -> bytes:
    """Return a file of one image of tiles."""
    body = bytes([0, 0, len(tiles) // columns - 1, columns - 1]) + struct.pack(">HH", *size)
    ispe = (b"ispe", bytes(4) + struct.pack(">II", *size), False)
    items = [Item(b"grid", body, [ispe, *extra]), *(Item(tile.kind, tile.data, tile.properties) for tile in tiles)]
    return container(items, [(b"dimg", 1, tuple(range(2, len(items) + 1)))])


def container(
    items: Sequence[Item], references: Sequence[tuple[bytes, int, tuple[int, ...]]] = (), primary: int = 1
) -> bytes:
    """Return a file of items with the ids 1, 2, ..., the data of each in the box idat of the file's meta box."""
    kinds = b"".join(
        box(b"infe", struct.pack(">IHH4sB", 2 << 24, number, 0, item.kind, 0)) for number, item in enumerate(items, 1)
    )
    places, start = b"", 0
    for number, item in enumerate(items, 1):
        places += struct.pack(">HHHHII", number, 1, 0, 1, start, len(item.data))
        start += len(item.data)
    known = [found for item in items for found in item.properties]
    associations, index = b"", 0
    for number, item in enumerate(items, 1):
        associations += struct.pack(">HB", number, len(item.properties))
        for _, _, is_essential in item.properties:
            index += 1
            associations += struct.pack(">H", index | is_essential << 15)
    refers = b"".join(
        box(kind, struct.pack(f">{2 + len(targets)}H", source, len(targets), *targets))
        for kind, source, targets in references
    )
    count = struct.pack(">H", len(items))
    meta = box(
        b"meta",
        bytes(4),
        box(b"hdlr", bytes(8), b"pict", bytes(13)),
        box(b"pitm", bytes(4), struct.pack(">H", primary)),
        box(b"iinf", bytes(4), count, kinds),
        box(b"iloc", b"\1\0\0\0\x44\0", count, places),
        box(b"iref", bytes(4), refers),
        box(
            b"iprp",
            box(b"ipco", *(box(kind, body) for kind, body, _ in known)),
            box(b"ipma", struct.pack(">II", 1, len(items)), associations),
        ),
        box(b"idat", *(item.data for item in items)),
    )
    return box(b"ftyp", b"mif1", bytes(4), b"mif1heicavif") + meta


def sequence(frames: Sequence[Coded], alpha: Sequence[Coded] = (), *extra: Extra) -> bytes:
    """Return a file of tracks alone: of the frames, which share a configuration, and of their alpha."""
    tracks = [(b"pict", frames, b"", extra)]
    if alpha:
        tracks.append((b"auxv", alpha, box(b"tref", box(b"auxl", struct.pack(">I", 1))), [(b"auxi", ALPHA, False)]))
    head = box(b"ftyp", b"msf1", bytes(4), b"msf1hevcavis")
    data = b"".join(frame.data for _, images, _, _ in tracks for frame in images)
    place, bodies = len(head) + 8, b""
    for number, (handler, images, reference, further) in enumerate(tracks, 1):
        bodies += _track(number, handler, images, place, reference, further)
        place += sum(len(image.data) for image in images)
    return head + box(b"mdat", data) + box(b"moov", bodies)


def _track(
    number: int, handler: bytes, images: Sequence[Coded], place: int, reference: bytes, extra: Sequence[Extra]
) -> bytes:
    first = images[0]
    entry = bytes(24) + struct.pack(">HH", first.width, first.height) + bytes(50)
    described = [found for found in (*first.properties, *extra) if found[0] != b"ispe"]
    sizes = struct.pack(f">{len(images)}I", *(len(image.data) for image in images))
    table = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), box(first.kind, entry, *(box(*found[:2]) for found in described))),
        box(b"stsz", bytes(8), struct.pack(">I", len(images)), sizes),
        box(b"stsc", bytes(4), struct.pack(">4I", 1, 1, len(images), 1)),
        box(b"stco", bytes(4), struct.pack(">II", 1, place)),
    )
    media = box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(13)), box(b"minf", table))
    return box(b"trak", box(b"tkhd", bytes(12), struct.pack(">I", number), bytes(68)), reference, media)

"""Choose the parts of a file that its image depends on, and check the sizes that they announce."""

from tagmill.images.formats.heif.boxes import Fields, file_boxes
from tagmill.images.formats.heif.items import Items, Location, read_items
from tagmill.images.formats.heif.parts import Part, Parts
from tagmill.images.formats.heif.track import count_frames, read_first_frame
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

CODED = frozenset({b"av01", b"hvc1"})
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
#: properties that may be called essential: those that are understood, and those that describe and change no pixel
_UNDERSTOOD = frozenset(
    {b"av1C", b"hvcC", b"ispe", b"pixi", b"auxC", b"a1op", b"a1lx", b"lsel", b"colr", b"irot", b"imir", b"clap"}
    | {b"pasp", b"clli", b"mdcv", b"cclv", b"amve", b"rloc", b"udes", b"altt", b"crtt", b"mdft"}
)
#: tiles of an image; 100,000,000 pixels in tiles of 256 are 1,526
_MAX_TILES = 10_000
_TRANSFORMS = frozenset({b"irot", b"imir", b"clap"})


def select_parts(data: bytes, limits: DecodeLimits) -> Parts:
    """Return the parts of the primary image, or of a sequence's first frame if there is none. Raises ImageFailure."""
    found = file_boxes(data, frozenset({b"meta", b"moov"}))
    if b"moov" in found:
        limits.check_frames(count_frames(found[b"moov"]))
    if b"meta" in found:
        items = read_items(found[b"meta"], memoryview(data))
        if items.primary is not None:
            return _Selection(items, limits).parts
    if b"moov" not in found:
        raise ImageFailure(ErrorCode.CORRUPT, "the file names no image")
    parts = read_first_frame(found[b"moov"], data)
    for part in parts.all:
        _check_essential(part)
        limits.check_size(*part.size)
    return parts


class _Selection:
    """Collects the parts of a primary image."""

    def __init__(self, items: Items, limits: DecodeLimits) -> None:
        self.parts = Parts()
        self._items = items
        self._limits = limits
        self._places: dict[int, int] = {}
        self._data: dict[Location, bytes] = {}
        self._bytes = 0
        assert items.primary is not None
        self._add_image(items.primary)
        colors = dict(self._places)
        for (kind, source), targets in items.references.items():
            if kind == b"auxl" and source not in self._places and self._is_alpha(source):
                self._add_alpha(source, [(target, colors[target]) for target in targets if target in colors])

    def _add_image(self, item: int) -> int:
        """Add an item with the tiles that it is made of. Return its index."""
        index = self._add(item)
        if self.parts.all[index].kind != b"grid":
            return index
        tiles = self._items.references.get((b"dimg", item), ())
        rows, columns = self._check_grid(self.parts.all[index], len(tiles))
        places = tuple(self._add_tile(tile) for tile in tiles)
        self.parts.tiles[index] = places
        sizes = {(self.parts.all[place].kind, *self.parts.all[place].size) for place in places}
        if len(sizes) > 1:
            raise ImageFailure(ErrorCode.CORRUPT, "the tiles of the image differ in size or codec")
        _, width, height = sizes.pop()
        self._limits.check_size(columns * width, rows * height)
        if columns * width < self.parts.all[index].size[0] or rows * height < self.parts.all[index].size[1]:
            raise ImageFailure(ErrorCode.CORRUPT, "the tiles do not cover the image")
        return index

    def _check_grid(self, grid: Part, tiles: int) -> tuple[int, int]:
        fields = Fields(memoryview(grid.data), skip=1)
        field_size = 4 if fields.uint(1) & 1 else 2
        rows, columns = fields.uint(1) + 1, fields.uint(1) + 1
        if (fields.uint(field_size), fields.uint(field_size)) != grid.size:
            raise ImageFailure(ErrorCode.CORRUPT, "the image's grid has another size than the image")
        if tiles > _MAX_TILES:
            raise ImageFailure(ErrorCode.CORRUPT, f"the image has over {_MAX_TILES} tiles")
        if rows * columns != tiles:
            raise ImageFailure(ErrorCode.CORRUPT, f"the image has {tiles} of {rows * columns} tiles")
        return rows, columns

    def _add_tile(self, item: int) -> int:
        place = self._add(item)
        part = self.parts.all[place]
        if part.kind not in CODED or any(found.kind in _TRANSFORMS for found in part.properties):
            raise ImageFailure(
                ErrorCode.UNSUPPORTED_FORMAT, "an image of tiles that are rotated or derived is not read"
            )
        return place

    def _add(self, item: int) -> int:
        if item in self._places:
            return self._places[item]
        kind = self._items.kinds.get(item, b"")
        if kind not in CODED | {b"grid"}:
            name = kind.decode("latin-1").strip() or "nothing"
            code = ErrorCode.UNSUPPORTED_FORMAT if kind else ErrorCode.CORRUPT
            raise ImageFailure(code, f"a HEIF image that is stored as {name!a} is not read")
        part = Part(kind, self._read(item), self._items.properties.get(item, []))
        _check_essential(part)
        self._limits.check_size(*part.size)
        self._places[item] = len(self.parts.all)
        self.parts.all.append(part)
        return self._places[item]

    def _read(self, item: int) -> bytes:
        """Return an item's data; items in the same place share it, as equal tiles do."""
        location = self._items.locations.get(item, Location(0, ()))
        if location not in self._data:
            self._data[location] = self._items.data(item)
            self._bytes += len(self._data[location])
            if self._bytes > len(self._items.file):
                raise ImageFailure(ErrorCode.CORRUPT, "the items of the image overlap")
        return self._data[location]

    def _is_alpha(self, item: int) -> bool:
        properties = self._items.properties.get(item, [])
        return any(found.kind == b"auxC" and bytes(found.body[4:]).startswith(_ALPHA) for found in properties)

    def _add_alpha(self, item: int, targets: list[tuple[int, int]]) -> None:
        """Add an item as the alpha of parts (item, index) that have none yet."""
        for target, index in targets:
            if index in self.parts.alphas:
                continue
            self.parts.alphas[index] = place = self._add_image(item)
            if self.parts.all[place].size != self.parts.all[index].size:
                raise ImageFailure(ErrorCode.CORRUPT, "the image's alpha has another size")
            if item in self._items.references.get((b"prem", target), ()):
                self.parts.premultiplied.add(index)


def _check_essential(part: Part) -> None:
    for found in part.properties:
        if found.is_essential and found.kind not in _UNDERSTOOD:
            name = found.kind.decode("latin-1")
            raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"a HEIF image with the property {name!a} is not read")

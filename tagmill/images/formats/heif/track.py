"""Image sequences: count the frames, and find the first (ISO/IEC 14496-12, section 8; 23008-12, section 7)."""

from dataclasses import dataclass

from tagmill.images.formats.heif.boxes import Box, Fields, boxes, first_boxes, full_box
from tagmill.images.formats.heif.items import Property
from tagmill.images.formats.heif.parts import Part, Parts
from tagmill.outcomes import ErrorCode, ImageFailure

#: types of a sample entry, and of the item that holds the same data
_CODECS = {b"av01": b"av01", b"hvc1": b"hvc1", b"hev1": b"hvc1"}
#: bytes of a visual sample entry before its boxes, and before its width
_ENTRY, _WIDTH = 78, 24
_IMAGES, _ALPHA = b"pict", b"auxv"


@dataclass(frozen=True)
class _Track:
    number: int
    handler: bytes
    #: boxes of the sample table
    table: dict[bytes, memoryview]
    #: tracks that this one is auxiliary to
    masters: tuple[int, ...]

    @property
    def samples(self) -> int:
        return _sizes(self)[1]


def count_frames(moov: memoryview) -> int:
    """Return the most frames of a track of images. Raises ImageFailure."""
    return max((track.samples for track in _tracks(moov) if track.handler == _IMAGES), default=0)


def read_first_frame(moov: memoryview, file: bytes) -> Parts:
    """Return the first frame with its alpha. Raises ImageFailure."""
    tracks = _tracks(moov)
    color = next((track for track in tracks if track.handler == _IMAGES), None)
    if color is None:
        raise ImageFailure(ErrorCode.CORRUPT, "the file holds no track of images")
    parts = Parts([_first_sample(color, file)])
    for track in tracks:
        if track.handler == _ALPHA and color.number in track.masters:
            alpha = _first_sample(track, file)
            if any(found.kind == b"auxC" for found in alpha.properties):
                parts.all.append(alpha)
                parts.alphas[0] = 1
                break
    return parts


def _tracks(moov: memoryview) -> list[_Track]:
    return [_track(first_boxes(body)) for kind, body in boxes(moov) if kind == b"trak"]


def _track(trak: dict[bytes, memoryview]) -> _Track:
    version, _, header = full_box(_box(trak, b"tkhd"))
    header.take(16 if version == 1 else 8)
    media = first_boxes(_box(trak, b"mdia"))
    handler = bytes(_box(media, b"hdlr")[8:12])
    table = first_boxes(_box(first_boxes(_box(media, b"minf")), b"stbl"))
    references = first_boxes(trak.get(b"tref", memoryview(b""))).get(b"auxl", memoryview(b""))
    masters = Fields(references).uints(len(references) // 4, 4)
    return _Track(header.uint(4), handler, table, masters)


def _sizes(track: _Track) -> tuple[int, int]:
    """Return the length of the first sample, and the number of samples."""
    _, _, fields = full_box(_box(track.table, b"stsz"))
    length, count = fields.uint(4), fields.uint(4)
    return length or (fields.uint(4) if count else 0), count


def _first_sample(track: _Track, file: bytes) -> Part:
    kind, properties = _entry(track)
    length, count = _sizes(track)
    is_wide = b"co64" in track.table
    _, _, chunks = full_box(_box(track.table, b"co64" if is_wide else b"stco"))
    if count == 0 or chunks.uint(4) == 0:
        raise ImageFailure(ErrorCode.CORRUPT, "the sequence has no frame")
    start = chunks.uint(8 if is_wide else 4)
    if start + length > len(file):
        raise ImageFailure(ErrorCode.TRUNCATED, f"the first frame ends at byte {start + length} of {len(file)}")
    return Part(kind, file[start : start + length], properties)


def _entry(track: _Track) -> tuple[bytes, list[Property]]:
    """Return codec and properties in the first sample entry."""
    _, _, entries = full_box(_box(track.table, b"stsd"))
    entries.uint(4)
    kind, body = next(boxes(entries.rest()), (b"", memoryview(b"")))
    if kind not in _CODECS:
        code = ErrorCode.UNSUPPORTED_FORMAT if kind else ErrorCode.CORRUPT
        raise ImageFailure(code, f"a sequence of images that is stored as {kind.decode('latin-1')!a} is not read")
    fields = Fields(body, skip=_WIDTH)
    size = bytes(4) + b"".join(fields.uint(2).to_bytes(4) for _ in range(2))
    fields.take(_ENTRY - _WIDTH - 4)
    described = [Property(*found, False) for found in map(_as_property, boxes(fields.rest()))]
    return _CODECS[kind], [Property(b"ispe", memoryview(size), False), *described]


def _as_property(box: Box) -> Box:
    """Return the box of a sample entry as an item has it: the kind of an auxiliary image has another name there."""
    kind, body = box
    return (b"auxC", body) if kind == b"auxi" else (kind, body)


def _box(found: dict[bytes, memoryview], kind: bytes) -> memoryview:
    if kind not in found:
        raise ImageFailure(ErrorCode.CORRUPT, f"the sequence has no box {kind.decode('latin-1')!a}")
    return found[kind]

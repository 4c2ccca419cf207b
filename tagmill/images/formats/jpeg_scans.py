"""JPEG behind the first scan's header: find the end of the image, and remove what libjpeg warns of without need."""

import re
from collections.abc import Iterator

END = b"\xff\xd9"
#: Scans of an image, each of which costs a pass over all pixels. Encoders of progressive images write about 10.
MAX_SCANS = 100

PROGRESSIVE, SCAN = 0xC2, 0xDA
_APP0, _ICC, _ADOBE, _END = 0xE0, 0xE2, 0xEE, 0xD9
#: what `parts` yields for coded data
_CODED = 0
#: segments behind the first scan's header; a scan is preceded by one or two
_MAX_PARTS = 10_000
#: 0xff before any byte but a stuffed zero, a restart marker and another fill byte
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
#: coded data, then zeros that no code needs, then a restart marker; a zero after 0xff belongs to the data
_PADDED_RESTART = re.compile(rb"(\xff\x00|[^\x00\xff])\x00+(\xff+[\xd0-\xd7])")
_EXTRANEOUS = re.compile(r"extraneous bytes before marker 0x(..)")
#: Values that libjpeg knows of the last byte of Adobe's marker, by number of channels. It takes any other for the last.
_TRANSFORMS = {3: (0, 1), 4: (0, 2)}

#: marker, start and end of a segment
Segment = tuple[int, int, int]


def count_scans(data: bytes, first: int) -> int:
    """Return the number of scans of the image whose first scan's data is at `first`; counting stops above MAX_SCANS.

    What follows the end marker, such as a film or a second image, is not searched.
    """
    scans = 1
    for number, (marker, _, _) in enumerate(_parts(data, first)):
        scans += marker == SCAN
        if scans > MAX_SCANS or number > _MAX_PARTS:
            return MAX_SCANS + 1
    return scans


def repaired(data: bytes, segments: list[Segment], kind: int, message: str) -> bytes | None:
    """Return the file without the cause of libjpeg's warning, or None if the cause may be damage.

    `segments` are those up to the first scan's header, and `kind` is the marker of the frame header.
    """
    _, start, first = segments[-1]
    channels = next((data[place + 9] for marker, place, _ in segments if marker == kind), 0)
    found = _EXTRANEOUS.search(message)
    before = int(found[1], 16) if found else None
    rest, last = [], _CODED
    for last, begin, end in _parts(data, first):
        part = data[begin:end]
        rest.append(_without_padding(part, before) if last == _CODED and before is not None else part)
    if last != _END and "Premature end of JPEG file" in message:
        single_scan = kind != PROGRESSIVE and data[start + 4] == channels and len(rest) == 1
        if not single_scan:
            return None
        rest = [rest[0].removesuffix(b"\xff") + END]
    header = [_with_defaults(data[begin:end], marker, kind, channels) for marker, begin, end in segments]
    return b"".join([data[:2], *header, *rest])


def _parts(data: bytes, first: int) -> Iterator[Segment]:
    """Yield what follows the first scan's header, up to the end marker: coded data, and segments between scans."""
    offset, coded = first, True
    while True:
        found = _MARKER.search(data, offset)
        place = found.start() if found else len(data)
        if coded:
            yield _CODED, offset, place
        if found is None:
            return
        marker, length = data[place + 1], 0
        if marker not in {0x01, 0xD8, _END}:
            length = max(2, int.from_bytes(data[place + 2 : place + 4]))
        offset = min(len(data), place + 2 + length)
        yield marker, place, offset
        if marker == _END:
            return
        coded = marker == SCAN


def _without_padding(coded: bytes, before: int) -> bytes:
    """Return coded data without zeros before its restart markers, or before the marker behind it."""
    if 0xD0 <= before <= 0xD7:
        return _PADDED_RESTART.sub(rb"\1\2", coded)
    plain = coded.rstrip(b"\xff").rstrip(b"\0")
    # In coded data a byte 0xff is followed by a zero, which must stay.
    return plain + (b"\0" if plain.endswith(b"\xff") else b"")


def _with_defaults(segment: bytes, marker: int, kind: int, channels: int) -> bytes:
    """Return the segment with the values that libjpeg warns of and ignores set to its defaults."""
    if marker == _APP0 and segment[4:9] == b"JFIF\0" and len(segment) > 9:
        return segment[:9] + b"\x01" + segment[10:]
    if marker == SCAN and kind != PROGRESSIVE:
        return segment[:-3] + b"\x00\x3f\x00"
    if marker == _ICC and segment[4:].startswith(b"ICC_PROFILE\0"):
        return b""  # the profile was read from the file; libjpeg warns if its numbers have gaps
    known = _TRANSFORMS.get(channels, ())
    if marker == _ADOBE and segment[4:9] == b"Adobe" and len(segment) > 15 and known and segment[15] not in known:
        return segment[:15] + bytes([known[-1]]) + segment[16:]
    return segment

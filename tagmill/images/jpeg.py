"""JPEG: read the header, and decode with libjpeg-turbo; an incomplete or damaged file is refused.

libjpeg decodes a damaged JPEG to an image with gray or shifted blocks and only warns. simplejpeg's strict mode turns
every warning into an error. A few warnings do not affect the pixels: their cause is removed from the bytes, and the
file is decoded again. docs/images.md lists them.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from tagmill.images.color import needs_conversion, to_srgb
from tagmill.images.exif import SIDEWAYS, apply_orientation, orientation
from tagmill.images.image import DecodedImage, DecodeLimits, Pixels
from tagmill.outcomes import ErrorCode, ImageFailure

START = b"\xff\xd8\xff"
END = b"\xff\xd9"
#: scans of a progressive image; encoders write about 10, and each one costs a pass over all pixels
MAX_SCANS = 100

#: number of channels to Pillow's mode, and mode to simplejpeg's colorspace
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_COLORSPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
#: segments before the first scan; encoders write about 10, and a large profile takes 50 more
_MAX_SEGMENTS = 10_000
_SCAN = 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Huffman-coded frames: baseline, extended, progressive
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_EXTRANEOUS = "extraneous bytes before marker 0xd9"
_MARKER = re.compile(rb"\xff[^\x00\xff]")


@dataclass(frozen=True)
class JpegHeader:
    """The header of a JPEG, up to the first scan."""

    width: int
    height: int
    channels: int
    #: marker of the frame header, which names the coding process
    kind: int
    #: the first scan holds all channels
    single_scan: bool
    #: three channels, and the first is certainly luminance, as in nearly all files
    luminance_first: bool
    #: EXIF orientation 1..8
    orientation: int
    icc: bytes | None
    #: offset of the first scan's coded data
    scan: int


def read_jpeg(data: bytes, side: int, limits: DecodeLimits) -> DecodedImage:
    """Decode, shrinking to k/8 on the way with no side below `side` pixels. Raises ImageFailure."""
    header = read_header(data)
    limits.check_size(header.width, header.height)
    # CMYK always needs a conversion, with or without a profile
    plain = header.channels != 4 and not needs_conversion(header.icc)
    mode = "RGB" if plain else _MODES[header.channels]
    pixels = _read_pixels(data, header, side, _COLORSPACES[mode])
    rgb = pixels if plain else _to_srgb(pixels, mode, header.icc)
    width, height = header.width, header.height
    if header.orientation in SIDEWAYS:
        width, height = height, width
    if header.orientation != 1:
        rgb = apply_orientation(rgb, header.orientation)
    return DecodedImage(rgb, width, height, "JPEG")


def read_header(data: bytes) -> JpegHeader:
    """Read the segments up to the first scan. Raises ImageFailure."""
    frame, scan, kind = b"", b"", 0
    exif, adobe = b"", b""
    profile: dict[int, bytes] = {}
    end = 0
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker in _FRAMES:
            frame, kind = body, marker
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif:
            exif = body[6:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == 0xEE and body.startswith(b"Adobe"):
            adobe = body
        elif marker == _SCAN:
            scan = body
    if len(frame) < 6:
        raise ImageFailure(ErrorCode.CORRUPT, "the JPEG has no frame header")
    bits, height, width, channels = struct.unpack_from(">BHHB", frame)
    if kind not in {_BASELINE, _EXTENDED, _PROGRESSIVE} or bits != 8 or channels not in _MODES:
        process = f"JPEG process 0x{kind:02x} with {bits} bits and {channels} channels"
        raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"{process} is not read")
    if kind == _PROGRESSIVE and (scans := data.count(b"\xff\xda", end)) >= MAX_SCANS:
        raise ImageFailure(ErrorCode.TOO_MANY_FRAMES, f"a progressive JPEG of {scans + 1} scans is over {MAX_SCANS}")
    single_scan = kind != _PROGRESSIVE and scan[:1] == frame[5:6]
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    # The last byte of Adobe's marker is 1 for YCbCr. Without that marker, RGB files name their channels R, G and B.
    luminance_first = channels == 3 and (adobe[11] == 1 if len(adobe) > 11 else frame[6::3] != b"RGB")
    return JpegHeader(width, height, channels, kind, single_scan, luminance_first, orientation(exif), icc, end)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, ending with the first scan's header. Stray bytes are skipped."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        offset = _next_marker(data, offset)
        marker = data[offset + 1]
        if marker in _STANDALONE:
            offset += 2
            continue
        if marker == 0xD9:
            raise ImageFailure(ErrorCode.CORRUPT, "the JPEG ends before its first scan")
        length = int.from_bytes(data[offset + 2 : offset + 4])
        end = offset + 2 + length
        if max(end, offset + 4) > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, "the JPEG ends in its header")
        if length < 2:
            raise ImageFailure(ErrorCode.CORRUPT, f"segment 0x{marker:02x} has an impossible length")
        yield marker, offset, end
        if marker == _SCAN:
            return
        offset = end
    raise ImageFailure(ErrorCode.CORRUPT, f"the JPEG has over {_MAX_SEGMENTS} segments before its first scan")


def _read_pixels(data: bytes, header: JpegHeader, side: int, colorspace: str) -> Pixels:
    """Return uint8 [H, W, channels of `colorspace`], shrunk to k/8 with no side below `side` pixels.

    Raises ImageFailure if a single pixel may be wrong.
    """
    try:
        return _decode_strict(data, side, colorspace)
    except ValueError as error:
        message = str(error)
    code = ErrorCode.TRUNCATED if "Premature end of JPEG file" in message else ErrorCode.CORRUPT
    repaired = _repaired(data, header, message)
    if repaired is None:
        raise ImageFailure(code, message)
    try:
        return _decode_strict(repaired, side, colorspace)
    except ValueError as error:
        raise ImageFailure(code, message) from error


def _decode_strict(data: bytes, side: int, colorspace: str) -> Pixels:
    pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace, min_height=side, min_width=side, strict=True)
    return pixels


def _next_marker(data: bytes, offset: int) -> int:
    """Return the offset of the next marker; stray bytes and fill bytes before it are skipped."""
    found = _MARKER.search(data, offset)
    if found is None:
        raise ImageFailure(ErrorCode.TRUNCATED, "the JPEG ends in its header")
    return found.start()


def _repaired(data: bytes, header: JpegHeader, message: str) -> bytes | None:
    """Return the file without the cause of libjpeg's warning, or None if the cause may be damage."""
    rest = data[header.scan :]
    if _EXTRANEOUS in message:
        coded = rest[: rest.find(END)].rstrip(b"\0")
        # In coded data a byte 0xff is followed by a zero, which must stay.
        rest = coded + (b"\0" if coded.endswith(b"\xff") else b"") + END
    elif "Premature end of JPEG file" in message:
        if not header.single_scan or END in rest:
            return None
        rest += END
    segments = [_with_defaults(data[start:end], marker, header.kind) for marker, start, end in _segments(data)]
    return b"".join([data[:2], *segments, rest])


def _with_defaults(segment: bytes, marker: int, kind: int) -> bytes:
    """Return the segment with the values that libjpeg warns of and ignores set to its defaults."""
    if marker == 0xE0 and segment[4:9] == b"JFIF\0" and len(segment) > 9:
        return segment[:9] + b"\x01" + segment[10:]
    if marker == _SCAN and kind != _PROGRESSIVE:
        return segment[:-3] + b"\x00\x3f\x00"
    return segment


def _to_srgb(pixels: Pixels, mode: str, icc: bytes | None) -> Pixels:
    height, width = pixels.shape[:2]
    if mode == "CMYK":  # all writers follow Adobe and store inverted inks: 255 is no ink
        pixels = 255 - pixels
    image = Image.frombuffer(mode, (width, height), pixels.tobytes(), "raw", mode, 0, 1)
    return np.asarray(to_srgb(image, icc))

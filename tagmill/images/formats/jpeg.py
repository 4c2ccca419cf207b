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
from tagmill.images.formats.jpeg_scans import MAX_SCANS, PROGRESSIVE, SCAN, Segment, count_scans, repaired
from tagmill.images.image import DecodedImage, DecodeLimits, Pixels
from tagmill.outcomes import ErrorCode, ImageFailure

START = b"\xff\xd8\xff"

#: number of channels to Pillow's mode, and mode to simplejpeg's colorspace
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_COLORSPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
#: segments before the first scan; encoders write about 10, and a large profile takes 50 more
_MAX_SEGMENTS = 10_000
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
#: markers of frame headers that are read: Huffman-coded baseline, extended and progressive
_READ = frozenset({0xC0, 0xC1, PROGRESSIVE})
#: markers of frame headers that are not read
_UNREAD = {
    **dict.fromkeys((0xC3,), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic coded"),
    0xF7: "lossless (JPEG-LS)",
}
#: words of libjpeg and TurboJPEG for what they do not do, such as rare sampling factors
_NOT_DONE = ("not implemented", "unsupported", "not supported", "could not determine subsampling")
#: repairs of one file, each of which costs another pass: of its header, its end, its restart markers
_MAX_REPAIRS = 3
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
    plain = header.channels != 4 and (header.icc is None or not needs_conversion(header.icc))
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
        if marker in _READ or marker in _UNREAD:
            frame, kind = body, marker
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif:
            exif = body[6:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == 0xEE and body.startswith(b"Adobe"):
            adobe = body
        elif marker == SCAN:
            scan = body
    if len(frame) < 6:
        raise ImageFailure(ErrorCode.CORRUPT, "the JPEG has no frame header")
    bits, height, width, channels = struct.unpack_from(">BHHB", frame)
    _check_process(kind, bits, channels)
    if height == 0 and b"\xff\xdc\x00\x04" in data[end:]:
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, "a JPEG whose height follows its first scan (DNL) is not read")
    single_scan = kind != PROGRESSIVE and scan[:1] == frame[5:6]
    if not single_scan and count_scans(data, end) > MAX_SCANS:
        raise ImageFailure(ErrorCode.TOO_MANY_FRAMES, f"a JPEG of more than {MAX_SCANS} scans")
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    # The last byte of Adobe's marker is 1 for YCbCr. Without that marker, RGB files name their channels R, G and B.
    luminance_first = channels == 3 and (adobe[11] == 1 if len(adobe) > 11 else frame[6::3] != b"RGB")
    return JpegHeader(width, height, channels, kind, single_scan, luminance_first, orientation(exif), icc, end)


def _check_process(kind: int, bits: int, channels: int) -> None:
    """Raise ImageFailure for a coding process, bit depth or number of channels that is not read."""
    name = _UNREAD.get(kind) or (f"{bits}-bit" if bits == 12 else None)
    if name is None and bits == 8 and channels not in _MODES and channels:
        name = f"{channels}-channel"
    if name:
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"a JPEG that is {name} is not read")
    if bits != 8 or channels == 0:
        raise ImageFailure(ErrorCode.CORRUPT, f"the JPEG announces {bits} bits and {channels} channels")


def _segments(data: bytes) -> Iterator[Segment]:
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
        if marker == SCAN:
            return
        offset = end
    raise ImageFailure(ErrorCode.CORRUPT, f"the JPEG has over {_MAX_SEGMENTS} segments before its first scan")


def _read_pixels(data: bytes, header: JpegHeader, side: int, colorspace: str) -> Pixels:
    """Return uint8 [H, W, channels of `colorspace`], shrunk to k/8 with no side below `side` pixels.

    Raises ImageFailure if a single pixel may be wrong.
    """
    said: list[str] = []
    while len(said) <= _MAX_REPAIRS:
        try:
            return _decode_strict(data, side, colorspace)
        except ValueError as error:
            said.append(str(error))
        better = repaired(data, list(_segments(data)), header.kind, said[-1])
        if better is None or better == data:
            break
        data = better
    raise ImageFailure(_code(said[0]), said[0])


def _code(message: str) -> ErrorCode:
    if "Premature end of JPEG file" in message:
        return ErrorCode.TRUNCATED
    not_done = any(words in message.lower() for words in _NOT_DONE)
    return ErrorCode.UNSUPPORTED_FORMAT if not_done else ErrorCode.CORRUPT


def _decode_strict(data: bytes, side: int, colorspace: str) -> Pixels:
    pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace, min_height=side, min_width=side, strict=True)
    return pixels


def _next_marker(data: bytes, offset: int) -> int:
    """Return the offset of the next marker; stray bytes and fill bytes before it are skipped."""
    found = _MARKER.search(data, offset)
    if found is None:
        raise ImageFailure(ErrorCode.TRUNCATED, "the JPEG ends in its header")
    return found.start()


def _to_srgb(pixels: Pixels, mode: str, icc: bytes | None) -> Pixels:
    height, width = pixels.shape[:2]
    if mode == "CMYK":  # all writers follow Adobe and store inverted inks: 255 is no ink
        pixels = 255 - pixels
    image = Image.frombuffer(mode, (width, height), pixels.tobytes(), "raw", mode, 0, 1)
    return np.asarray(to_srgb(image, icc))

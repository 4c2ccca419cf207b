"""AV1 (AVIF) with Pillow: libavif and dav1d, after the structure of the data was checked.

AV1 has no checksum, and dav1d decodes any bytes to some pixels. What a lost connection or a disk leaves behind, zeros
in the place of data, is noticed here (AV1 bitstream specification, section 5), and so is a header of too many pixels.
"""

import io
from collections.abc import Iterator

from PIL import AvifImagePlugin, Image

from tagmill.images.formats.heif.parts import Parts, write_file
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

#: zero bytes in a row that coded data does not have: encoders of images of every kind wrote at most 6
_ZEROS = bytes(64)
_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME = 1, 3, 4, 6
#: bits of a sequence header up to its size, at most
_HEADER_BYTES = 160

# Images are decoded on many threads already.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def decode_av1(parts: Parts) -> Image.Image:
    """Return mode RGB or RGBA. Raises what Pillow raises."""
    with Image.open(io.BytesIO(write_file(parts)), formats=("AVIF",)) as image:
        image.load()
    return image


def check_av1(data: bytes, limits: DecodeLimits) -> None:
    """Raise ImageFailure if the data is no whole AV1 image, or one of too many pixels."""
    kinds = set()
    for kind, body in _units(memoryview(data)):
        kinds.add(kind)
        if kind == _SEQUENCE_HEADER:
            limits.check_size(*_size(body))
        elif kind in {_TILE_GROUP, _FRAME} and _ZEROS in bytes(body):
            raise ImageFailure(ErrorCode.CORRUPT, "the AV1 data has zeros in the place of data")
    if not kinds & {_TILE_GROUP, _FRAME}:
        raise ImageFailure(ErrorCode.CORRUPT, "the AV1 data has no frame")


def _units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and body of each unit (OBU)."""
    offset = 0
    while offset < len(data):
        head = data[offset]
        start = offset + (2 if head & 0x04 else 1)
        size = len(data) - start
        if head & 0x02:
            size, start = _leb128(data, start)
        if head & 0x80 or start + size > len(data) or size < 0:
            raise ImageFailure(ErrorCode.CORRUPT, "the AV1 data has a unit of an impossible length")
        yield head >> 3 & 15, data[start : start + size]
        offset = start + size


def _leb128(data: memoryview, offset: int) -> tuple[int, int]:
    """Return an integer of seven bits a byte, and the offset of its end."""
    value = 0
    for place in range(8):
        if offset + place >= len(data):
            break
        value |= (data[offset + place] & 0x7F) << 7 * place
        if not data[offset + place] & 0x80:
            return value, offset + place + 1
    raise ImageFailure(ErrorCode.CORRUPT, "the AV1 data has a unit of an impossible length")


class _Bits:
    """Reads bits from the left; there are zeros after the end."""

    def __init__(self, data: memoryview) -> None:
        self._value = int.from_bytes(bytes(data[:_HEADER_BYTES]).ljust(_HEADER_BYTES, b"\0"))
        self._left = 8 * _HEADER_BYTES

    def read(self, count: int) -> int:
        self._left -= count
        return self._value >> max(self._left, 0) & (1 << count) - 1


def _size(header: memoryview) -> tuple[int, int]:
    """Return the largest width and height of a frame that a sequence header allows (section 5.5.1)."""
    bits = _Bits(header)
    bits.read(4)
    if bits.read(1):  # a still with a reduced header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing information
        bits.read(64)
        if bits.read(1):
            _skip_variable_length(bits)
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delays and bits.read(1):
            bits.read(4)


def _skip_variable_length(bits: _Bits) -> None:
    zeros = 0
    while zeros < 32 and not bits.read(1):
        zeros += 1
    bits.read(zeros if zeros < 32 else 0)

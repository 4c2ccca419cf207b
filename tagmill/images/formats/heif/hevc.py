"""The structure of HEVC data (ITU-T H.265, section 7.3.1): its units fit, and hold no bytes that no encoder writes.

HEVC has no checksum, and libde265 decodes what it can. What a lost connection or a disk leaves behind, zeros in the
place of data, is noticed here.
"""

from collections.abc import Iterator

from tagmill.outcomes import ErrorCode, ImageFailure

#: sequences that do not occur in a unit: encoders put a 3 behind two zeros (section 7.4.2)
_IMPOSSIBLE = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
#: place in hvcC of the bits that tell how long the length of a unit is (ISO/IEC 14496-15, section 8.3.3.1)
_LENGTH_SIZE = 21
#: types of units below this one hold pixels
_PARAMETERS = 32


def check_hevc(data: bytes, config: memoryview) -> None:
    """Raise ImageFailure if the data is no whole HEVC image; `config` is the body of hvcC."""
    if len(config) <= _LENGTH_SIZE:
        raise ImageFailure(ErrorCode.CORRUPT, "the HEVC image has no configuration")
    has_pixels = False
    for unit in _units(data, (config[_LENGTH_SIZE] & 3) + 1):
        has_pixels |= unit[0] >> 1 & 63 < _PARAMETERS
        if unit[0] & 0x80 or unit[-1] == 0 or any(found in unit for found in _IMPOSSIBLE):
            raise ImageFailure(ErrorCode.CORRUPT, "the HEVC data has bytes that no encoder writes")
    if not has_pixels:
        raise ImageFailure(ErrorCode.CORRUPT, "the HEVC data has no pixels")


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Yield each unit (NAL)."""
    offset = 0
    while offset < len(data):
        start = offset + length_size
        end = start + int.from_bytes(data[offset:start])
        if end > len(data) or end < start + 2:
            raise ImageFailure(ErrorCode.CORRUPT, "the HEVC data has a unit of an impossible length")
        yield data[start:end]
        offset = end

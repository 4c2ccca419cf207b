"""PNG: whether the chunks that pixels depend on are all there and unharmed."""

import struct
import zlib

from tagmill.outcomes import ErrorCode, ImageFailure

_DATA = b"IDAT"
#: chunks up to the end of the first frame; data comes in chunks of 8 KB or more
_MAX_CHUNKS = 100_000
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"tRNS", _DATA})


def check_chunks(data: bytes) -> None:
    """Hold chunks against their checksums, which Pillow does for the header alone. Raises ImageFailure.

    It ends with the first frame: what stands behind it, text or more frames, may be damaged or missing.
    """
    view = memoryview(data)
    place, before = 8, b""
    for _ in range(_MAX_CHUNKS):
        if place + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, place)
        if before == _DATA and kind != _DATA:
            return
        end = place + 8 + length
        if end + 4 > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, f"the PNG ends in its chunk {kind!r}")
        if kind in _CRITICAL and zlib.crc32(view[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageFailure(ErrorCode.CORRUPT, f"the checksum of the PNG's chunk {kind!r} differs")
        place, before = end + 4, kind
    else:
        raise ImageFailure(ErrorCode.CORRUPT, f"the PNG has over {_MAX_CHUNKS} chunks")
    if before != _DATA:
        raise ImageFailure(ErrorCode.TRUNCATED, "the PNG ends before its pixels")

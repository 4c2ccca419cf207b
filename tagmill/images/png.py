"""PNG: check that the chunks of the first frame are complete and undamaged."""

import struct
import zlib

from tagmill.outcomes import ErrorCode, ImageFailure

_DATA = b"IDAT"
#: chunks up to the end of the first frame; encoders write data chunks of 8 KB or more
_MAX_CHUNKS = 100_000
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"tRNS", _DATA})


def check_chunks(data: bytes) -> None:
    """Check the checksums of the chunks that pixels depend on; Pillow checks only the header's. Raises ImageFailure.

    The check ends with the first frame. Text and further frames behind it may be damaged or missing.
    """
    view = memoryview(data)
    offset, previous = 8, b""
    for _ in range(_MAX_CHUNKS):
        if offset + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, offset)
        if previous == _DATA and kind != _DATA:
            return
        end = offset + 8 + length
        if end + 4 > len(data):
            raise ImageFailure(ErrorCode.TRUNCATED, f"the PNG ends in its chunk {kind!r}")
        if kind in _CRITICAL and zlib.crc32(view[offset + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageFailure(ErrorCode.CORRUPT, f"the checksum of the PNG's chunk {kind!r} differs")
        offset, previous = end + 4, kind
    else:
        raise ImageFailure(ErrorCode.CORRUPT, f"the PNG has over {_MAX_CHUNKS} chunks")
    if previous != _DATA:
        raise ImageFailure(ErrorCode.TRUNCATED, "the PNG ends before its pixels")

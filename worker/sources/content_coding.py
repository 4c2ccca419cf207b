"""Undo the `Content-Encoding` of a body, within a limit of bytes.

An image is asked for as it is, because its bytes are compressed already. Some servers compress it all the same; some
send a word that names no coding, or name a coding that they did not apply.
"""

import sys
import zlib
from collections.abc import Callable
from functools import partial

from tagmill.images.formats.signatures import begins_as_image

#: codings of one body
MAX_CODINGS = 5
#: codings that change the bytes and are not read
_UNREAD = frozenset({"compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"})
#: bytes that are unpacked at a time
_STEP = 2**20


class UnreadableBodyError(Exception):
    """A body that does not hold what its `Content-Encoding` says."""


class TooManyBytesError(Exception):
    """A body that exceeds the limit when it is unpacked."""


def unpack(body: bytes, content_encoding: str, limit: int) -> bytes:
    """Return a body without its codings. Raise UnreadableBodyError or TooManyBytesError.

    Words that name no coding are ignored. So is a coding that was not applied, if the body is an image without it.
    """
    words = [word.strip().lower() for word in content_encoding.split(",")]
    codings = [word for word in words if word in _UNPACKERS or word in _UNREAD]
    if len(codings) > MAX_CODINGS:
        raise UnreadableBodyError(f"came with {len(codings)} content codings; at most {MAX_CODINGS} are undone")
    for left, coding in reversed([*enumerate(codings)]):
        try:
            # What is still packed may be a little larger than the image.
            body = _UNPACKERS[coding](body, limit + (limit // 8 + 1024 if left else 0))
        except TooManyBytesError:
            raise
        except Exception as error:  # each library has errors of its own, and brotli and zstd may not be installed
            if begins_as_image(body):
                return body
            reason = "which is not read" if isinstance(error, KeyError | ImportError) else "and cannot be unpacked"
            raise UnreadableBodyError(f"came with Content-Encoding {coding}, {reason}") from None
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflated(body, limit, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes, limit: int) -> bytes:
    try:
        return _inflated(body, limit, zlib.MAX_WBITS)
    except (zlib.error, EOFError):
        return _inflated(body, limit, -zlib.MAX_WBITS)  # some servers leave out zlib's header


def _inflated(body: bytes, limit: int, wbits: int) -> bytes:
    unpacked = bytearray()
    while True:
        stream = zlib.decompressobj(wbits)
        unpacked += stream.decompress(body, limit + 1 - len(unpacked))
        if len(unpacked) > limit:
            raise TooManyBytesError
        if not stream.eof:
            raise EOFError
        body = stream.unused_data
        if not body.startswith(b"\x1f\x8b"):  # else a further member of a gzip file; anything else is padding
            return bytes(unpacked)


def _brotli(body: bytes, limit: int) -> bytes:
    import brotli

    stream = brotli.Decompressor()
    return _in_steps(partial(stream.process, output_buffer_limit=_STEP), stream.is_finished, body, limit)


def _zstd(body: bytes, limit: int) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    unpacked = b""
    while body:
        stream = zstd.ZstdDecompressor()
        unpacked += _in_steps(
            partial(stream.decompress, max_length=_STEP), partial(getattr, stream, "eof"), body, limit
        )
        body = stream.unused_data
        if len(unpacked) > limit:
            raise TooManyBytesError
    return unpacked


def _in_steps(step: Callable[[bytes], bytes], finished: Callable[[], bool], body: bytes, limit: int) -> bytes:
    unpacked = bytearray(step(body))
    while not finished():
        if len(unpacked) > limit:
            raise TooManyBytesError
        more = step(b"")
        if not more:
            raise EOFError
        unpacked += more
    if len(unpacked) > limit:
        raise TooManyBytesError
    return bytes(unpacked)


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}

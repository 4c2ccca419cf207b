"""Bodies that were compressed unasked, and headers that say so of bodies that were not."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest

from worker.sources.content_coding import TooManyBytesError, UnreadableBodyError, unpack

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300
LIMIT = len(IMAGE)


def _raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("backports.zstd").compress(data))


CODINGS = [
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("X-GZIP ", gzip.compress, id="x-gzip"),
    pytest.param("deflate", zlib.compress, id="zlib"),
    pytest.param("deflate", _raw_deflate, id="raw deflate"),
    pytest.param("br", brotli.compress, id="br"),
    pytest.param("zstd", _zstd, id="zstd"),
    pytest.param("gzip", lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]), id="two gzip members"),
    pytest.param("gzip", lambda data: gzip.compress(data) + bytes(100), id="padded gzip"),
    pytest.param("zstd", lambda data: _zstd(data[:99]) + _zstd(data[99:]), id="two zstd frames"),
    pytest.param("gzip, br", lambda data: brotli.compress(gzip.compress(data)), id="gzip in br"),
    pytest.param("aws-chunked,gzip", gzip.compress, id="gzip and a word that is no coding"),
]


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
def test_a_packed_image_is_unpacked_up_to_the_limit(coding: str, pack: Callable[[bytes], bytes]) -> None:
    assert unpack(pack(IMAGE), coding, LIMIT) == IMAGE
    with pytest.raises(TooManyBytesError):
        unpack(pack(IMAGE), coding, LIMIT - 1)


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
def test_a_body_that_ends_too_early_is_unreadable(coding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(IMAGE).rstrip(b"\0")
    with pytest.raises(UnreadableBodyError, match=r"came with Content-Encoding [a-z-]+, and cannot be unpacked"):
        unpack(packed[: len(packed) - 20], coding, LIMIT)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "compress", "gzip, br"])
def test_an_image_that_was_not_packed_is_returned_as_it_is(coding: str) -> None:
    assert unpack(IMAGE, coding, LIMIT) == IMAGE


def test_a_coding_that_is_not_read_is_named() -> None:
    with pytest.raises(UnreadableBodyError, match="came with Content-Encoding compress, which is not read"):
        unpack(b"\x1f\x9d...", "compress", LIMIT)


def test_many_codings_are_refused() -> None:
    with pytest.raises(UnreadableBodyError, match="6 content codings; at most 5"):
        unpack(IMAGE, ",".join(["gzip"] * 6), LIMIT)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("br", lambda data: brotli.compress(data, quality=1)), ("zstd", _zstd)],
)
def test_a_bomb_takes_little_more_memory_than_the_limit(coding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(TooManyBytesError):
        unpack(bomb, coding, 4_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 4_000_000

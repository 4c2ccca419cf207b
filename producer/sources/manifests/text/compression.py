"""Decompress a manifest while it is read: gzip and Zstandard, by the end of its name or its first bytes."""

import gzip
import sys
import zlib
from typing import BinaryIO, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: ends of the names of compressed files
SUFFIXES = (".gz", ".zst")
#: what reading a damaged compressed file raises
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def without_suffix(name: str) -> str:
    """Return the name of a file in lower case, without the end that says how it is compressed."""
    name = name.lower()
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def decompressed(file: BinaryIO, name: str) -> BinaryIO:
    """Return the content of a file. No text begins with the bytes that a compressed file begins with."""
    start = file.read(4)
    file.seek(0)
    if name.lower().endswith(".gz") or start.startswith(_GZIP):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if name.lower().endswith(".zst") or start == _ZSTD:
        return cast("BinaryIO", zstd.ZstdFile(file))
    return file

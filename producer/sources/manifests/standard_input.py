"""Open manifests, among them the one on standard input."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import BinaryIO, cast

from producer.sources.locate import open_location
from producer.sources.manifests.manifest import ManifestError

#: the source that is standard input
STANDARD_INPUT = "-"


@contextmanager
def open_manifest(location: str) -> Iterator[BinaryIO]:
    """Open a manifest for reading; it can be sought in. Raise OSError if it cannot be opened."""
    if location == STANDARD_INPUT:
        file = _copy_of_input()
        file.seek(0)
        yield file
        return
    with open_location(location) as file:
        yield file


@cache
def _copy_of_input() -> BinaryIO:
    """Copy standard input to a temporary file without a name, which ends with the process.

    It may be read twice, Parquet is read from its end, and no transaction is open while another program writes it.
    Raise ManifestError if standard input is closed.
    """
    if sys.stdin is None:
        raise ManifestError("standard input is closed")
    file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - it is kept as long as the process
    shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
    return file

"""Open a source for reading, wherever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tagmill.locations.schemes import is_stored, parse_stored


@contextmanager
def open_location(source: str) -> Iterator[BinaryIO]:
    """Open a file for reading; it can be sought in. Raise OSError if it cannot be opened."""
    if is_stored(source):
        from tagmill.stores.remote_file import open_remote  # obstore is an extra

        with open_remote(parse_stored(source)) as remote:
            yield remote
        return
    with Path(source).open("rb") as file:
        yield file

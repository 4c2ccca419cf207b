"""Open a source for reading, wherever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_location(source: str) -> Iterator[BinaryIO]:
    """Open a file for reading; it can be sought in. Raise OSError if it cannot be opened."""
    with Path(source).open("rb") as file:
        yield file

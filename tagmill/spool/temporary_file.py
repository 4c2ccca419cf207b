"""A temporary file that is written from its beginning to its end, and read at any place."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tagmill.errors import ConfigurationError

#: bytes that are kept in memory instead, so that small data needs no file
KEPT_BYTES = 2**20


class TemporaryFile:
    """A file without a name: it is gone when the process ends, however that ends.

    Raise ConfigurationError if the folder for temporary files is full or cannot be written to.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(KEPT_BYTES, prefix="tagmill-")  # noqa: SIM115 - see `close`
        self._size = 0

    def append(self, data: bytes | memoryview) -> int:
        """Write bytes at the end; return the offset at which they begin."""
        offset = self._size
        with _disk():
            self._file.seek(offset)
            self._file.write(data)
        self._size += len(data)
        return offset

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that were written."""
        with _disk():
            self._file.seek(offset)
            return self._file.read(size)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder, reason = tempfile.tempdir or "TMPDIR", error.strerror or str(error)
        raise ConfigurationError(
            f"the folder for temporary files, {folder}, cannot be written to: {reason}; "
            "free space there, or set TMPDIR to another folder"
        ) from error

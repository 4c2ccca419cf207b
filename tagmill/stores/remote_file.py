"""Open a file of an object store or a file system for reading. It can be sought in, and is never held whole."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from tagmill.locations.schemes import StoredLocation
from tagmill.stores.faults import file_system_errors, object_store_error
from tagmill.stores.file_system import open_file_system, path_of
from tagmill.stores.object_store import RETRIES, TIMEOUT, is_object_store, open_bucket

if TYPE_CHECKING:
    from obstore import GetOptions

#: bytes of one request: the first, and the most; each that follows on the one before is twice as large
FIRST_BYTES, MOST_BYTES = 2**18, 2**23


_Result = TypeVar("_Result")


@contextmanager
def open_remote(location: StoredLocation) -> Iterator[BinaryIO]:
    """Open a file. Raise OSError if it cannot be read; see `tagmill.stores.faults` for its kinds."""
    if is_object_store(location):
        with io.BufferedReader(_ObjectFile(location), FIRST_BYTES) as file:
            yield cast("BinaryIO", file)
        return
    with _opened_file(location) as remote:
        yield remote


@contextmanager
def _opened_file(location: StoredLocation) -> Iterator[BinaryIO]:
    with file_system_errors():
        files = open_file_system(location.scheme, location.root)
        file = files.open(path_of(location), "rb")
    with file:
        yield file


class _ObjectFile(io.RawIOBase):
    """An object, read in parts. Raises OSError if it changes meanwhile."""

    def __init__(self, location: StoredLocation) -> None:
        self._bucket = open_bucket(location.scheme, location.root, TIMEOUT, RETRIES)
        self._key = location.key
        self._at = 0
        #: the part that was read last, and where it begins
        self._part, self._start = b"", 0
        self._size_of_next = FIRST_BYTES
        import obstore

        meta = self._ask(lambda: obstore.head(self._bucket, self._key))
        self._size, self._etag = meta["size"], meta["e_tag"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed names a private type
        if self._at >= self._size:
            return 0
        if not self._start <= self._at < self._start + len(self._part):
            self._read_part()
        found = memoryview(self._part)[self._at - self._start :][: len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _read_part(self) -> None:
        import obstore

        follows = self._at == self._start + len(self._part)
        self._size_of_next = min(self._size_of_next * 2, MOST_BYTES) if follows else FIRST_BYTES
        end = min(self._at + self._size_of_next, self._size)
        options: GetOptions = {"range": (self._at, end)}
        if self._etag:
            options["if_match"] = self._etag
        data = self._ask(lambda: bytes(obstore.get(self._bucket, self._key, options=options).bytes()))
        self._part, self._start = data, self._at

    def _ask(self, request: Callable[[], _Result]) -> _Result:
        try:
            return request()
        except Exception as error:  # obstore raises OSError and ValueError, too
            raise object_store_error(error) from None

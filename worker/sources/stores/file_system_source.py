"""Fetch images from file systems of other machines, such as sftp://, that fsspec reads."""

import time
from typing import BinaryIO

from tagmill.errors import ConfigurationError
from tagmill.locations.schemes import StoredLocation
from tagmill.outcomes import ErrorCode, ImageFailure, printable
from tagmill.stores.file_system import forget_file_system, open_file_system, path_of, words_for
from worker.sources.http_failure import TransientFailure
from worker.sources.terms import Traffic
from worker.sources.validators import Answer

_CHUNK_BYTES = 2**20


class FileSystemReader:
    """Reads files through one connection per thread and host."""

    def __init__(self, max_bytes: int, timeout: float) -> None:
        """`timeout` is in messages only."""
        self._max_bytes = max_bytes
        self._timeout = timeout

    def get(self, location: StoredLocation, deadline: float, traffic: Traffic) -> Answer:
        """Return the bytes of a file. Raise ImageFailure."""
        traffic.add(requests=1)
        shown = printable(str(location))
        try:
            files = open_file_system(location.scheme, location.root)
            with files.open(path_of(location), "rb") as file:
                data = self._read(file, shown, deadline)
            traffic.add(bytes_fetched=len(data))
            return Answer(data)
        except ImageFailure:
            raise
        except ConfigurationError as error:
            raise ImageFailure(ErrorCode.FETCH_FAILED, str(error)) from None
        except FileNotFoundError:
            raise ImageFailure(ErrorCode.NOT_FOUND, f"{shown}: no such file") from None
        except PermissionError:
            raise ImageFailure(ErrorCode.FETCH_FAILED, f"{shown}: access denied") from None
        except TimeoutError:
            forget_file_system(location.scheme, location.root)
            raise self._late(shown) from None
        except Exception as error:  # each library has errors of its own
            forget_file_system(location.scheme, location.root)
            raise TransientFailure(ErrorCode.FETCH_FAILED, f"{shown}: {words_for(error)}") from None

    def _read(self, file: BinaryIO, shown: str, deadline: float) -> bytes:
        data = bytearray()
        while chunk := file.read(min(_CHUNK_BYTES, self._max_bytes + 1)):
            data += chunk
            if len(data) > self._max_bytes:
                raise ImageFailure(ErrorCode.TOO_MANY_BYTES, f"{shown}: is larger than {self._max_bytes} bytes")
            if time.monotonic() >= deadline:
                raise self._late(shown)
        return bytes(data)

    def _late(self, shown: str) -> ImageFailure:
        return ImageFailure(ErrorCode.FETCH_TIMEOUT, f"{shown}: no complete answer within {self._timeout:g} s")

"""Objects of an object store that results are written into. Credentials come from the environment alone."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any, BinaryIO

from producer.output.destinations.local_folder import SHARD
from tagmill.errors import InputError, ServiceDown
from tagmill.locations.schemes import SCHEMES, Kind, StoredLocation, parse_stored, url_scheme
from tagmill.stores.object_store import StoreFault, explain, open_bucket

if TYPE_CHECKING:
    from tagmill.stores.object_store import Bucket

#: seconds of one request, and how often it is repeated
_TIMEOUT, _RETRIES = 60.0, 5
#: bytes that are handed to the store at a time
_BUFFER = 2**20
#: faults that may be gone later
_PASSING = frozenset({StoreFault.TIMED_OUT, StoreFault.BUSY, StoreFault.TRANSIENT})


@contextmanager
def store_object(output: str) -> Iterator[BinaryIO]:
    """Open an object, which appears when the block ends. On an error there is none, or the old one.

    Raise InputError, or ServiceDown if the store does not answer.
    """
    place = _parse(output)
    with _explained(output):
        bucket = open_bucket(place.scheme, place.root, _TIMEOUT, _RETRIES)
        with _open(bucket, place.key) as out:
            yield out


class StoreFolder:
    """A prefix of an object store, as `store_folder` opens it."""

    def __init__(self, bucket: "Bucket", staging: str) -> None:
        self._bucket, self._staging = bucket, staging
        #: relative keys of the complete objects
        self.written: set[str] = set()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a new object for writing; `name` is its key below the prefix."""
        with _open(self._bucket, self._staging + name) as out:
            yield out
        self.written.add(name)


@contextmanager
def store_folder(output: str) -> Iterator[StoreFolder]:
    """Open a prefix. What the block wrote is below a prefix of its own until the block ends, and is then moved.

    Shards of an earlier export that were not written again are removed. On an error the prefix stays as it was. Raise
    InputError, or ServiceDown if the store does not answer.
    """
    place = _parse(output)
    prefix = f"{place.key.rstrip('/')}/".lstrip("/")
    with _explained(output):
        bucket = open_bucket(place.scheme, place.root, _TIMEOUT, _RETRIES)
        folder = StoreFolder(bucket, staging := f"{prefix}.tagmill-{token_hex(8)}.partial/")
        try:
            yield folder
            _move(bucket, staging, prefix, folder.written)
        except BaseException:
            with suppress(Exception):  # the error that ended the writing is the one to report
                _delete(bucket, [staging + name for name in folder.written])
            raise


def _parse(output: str) -> StoredLocation:
    scheme = url_scheme(output) or ""
    if SCHEMES[scheme] is not Kind.OBJECT_STORE:
        raise InputError(f"-o {scheme}://: results are written to files and to s3://, gs:// and az:// alone")
    try:
        return parse_stored(output)
    except ValueError as error:  # without the location, which may hold a login
        raise InputError(f"-o {scheme}://... {error}") from None


@contextmanager
def _open(bucket: "Bucket", key: str) -> Iterator[BinaryIO]:
    import obstore

    # On an exception, obstore gives the upload up.
    with obstore.open_writer(bucket, key) as upload:
        raw = _Upload(upload)
        out = io.BufferedWriter(raw, _BUFFER)
        try:
            yield out
            out.flush()
        finally:
            raw.upload = None


class _Upload(io.RawIOBase):
    """The upload of an object as a Python file. Once it ended, what is written is lost."""

    def __init__(self, upload: Any) -> None:
        self.upload = upload

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.upload is not None:
            self.upload.write(bytes(data))
        return len(data)


def _move(bucket: "Bucket", staging: str, prefix: str, written: set[str]) -> None:
    import obstore

    for name in sorted(written):
        obstore.rename(bucket, staging + name, prefix + name)
    folders = {prefix + name.rpartition("/")[0] for name in written}
    found = (one["path"] for chunk in obstore.list(bucket, prefix) for one in chunk)
    _delete(bucket, [key for key in found if _is_left(key, folders) and key.removeprefix(prefix) not in written])


def _is_left(key: str, folders: set[str]) -> bool:
    folder, _, name = key.rpartition("/")
    return SHARD.fullmatch(name) is not None and folder in {found.rstrip("/") for found in folders}


def _delete(bucket: "Bucket", keys: list[str]) -> None:
    import obstore

    if keys:
        obstore.delete(bucket, keys)


@contextmanager
def _explained(output: str) -> Iterator[None]:
    """Raise what obstore raises as an error that a user can act on."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("obstore") and not isinstance(error, OSError):
            raise
        fault, words = explain(error, writing=True)
        raise (ServiceDown if fault in _PASSING else InputError)(f"{output}: {words}") from error

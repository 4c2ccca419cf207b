"""Read and write whole files in object stores and on file systems of other machines, in flat memory.

Each function raises OSError as `tagmill.stores.faults` says.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Any

from tagmill.locations.schemes import StoredLocation
from tagmill.stores.faults import file_system_errors, object_store_error
from tagmill.stores.file_system import forget_file_system, open_file_system, path_of
from tagmill.stores.object_store import RETRIES, TIMEOUT, is_object_store, open_bucket
from tagmill.stores.remote_file import open_remote

_CHUNK = 2**22


def read_chunks(location: StoredLocation) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with open_remote(location) as file:
        while chunk := _read(file, location):
            yield chunk


def upload(path: Path, location: StoredLocation) -> None:
    """Write a local file there. It appears, or replaces the old one, when it is complete."""
    if is_object_store(location):
        bucket = open_bucket(location.scheme, location.root, TIMEOUT, RETRIES)
        import obstore

        try:
            obstore.put(bucket, location.key, path)
        except Exception as error:  # obstore raises OSError and ValueError, too
            raise object_store_error(error, writing=True) from None
        return
    target = path_of(location)
    folder, _, name = target.rpartition("/")
    temporary = f"{folder}/.tagmill-{token_hex(8)}.partial{PurePosixPath(name).suffix}"
    with _connected(location) as files:
        files.makedirs(folder, exist_ok=True)
        try:
            files.put_file(str(path), temporary)
            files.mv(temporary, target)
        except BaseException:
            with suppress(Exception):  # the error that ended the writing is the one to report
                files.rm_file(temporary)
            raise


def delete(location: StoredLocation) -> int:
    """Delete a file; return its bytes, 0 if there was none."""
    if is_object_store(location):
        bucket = open_bucket(location.scheme, location.root, TIMEOUT, RETRIES)
        import obstore

        try:
            size = int(obstore.head(bucket, location.key)["size"])
            obstore.delete(bucket, location.key)
        except FileNotFoundError:
            return 0
        except Exception as error:  # obstore raises OSError and ValueError, too
            raise object_store_error(error, writing=True) from None
        return size
    try:
        with _connected(location) as files:
            size = int(files.info(path_of(location)).get("size") or 0)
            files.rm_file(path_of(location))
    except FileNotFoundError:
        return 0
    return size


def version_of(location: StoredLocation) -> str:
    """Return what changes when a file is replaced: its ETag, or else its size and time."""
    if is_object_store(location):
        bucket = open_bucket(location.scheme, location.root, TIMEOUT, RETRIES)
        import obstore

        try:
            meta = obstore.head(bucket, location.key)
        except Exception as error:  # obstore raises OSError and ValueError, too
            raise object_store_error(error) from None
        return f"{meta['e_tag']} {meta['size']} {meta['last_modified']}"
    with _connected(location) as files:
        found = files.info(path_of(location))
        return " ".join(str(found.get(name)) for name in ("size", "mtime", "modify", "modified", "created"))


def _read(file: Any, location: StoredLocation) -> bytes:
    if is_object_store(location):
        return bytes(file.read(_CHUNK))
    try:
        with file_system_errors():
            return bytes(file.read(_CHUNK))
    except OSError:
        forget_file_system(location.scheme, location.root)
        raise


@contextmanager
def _connected(location: StoredLocation) -> Iterator[Any]:
    """Yield the file system; after an error, the next call opens a new connection."""
    try:
        with file_system_errors():
            yield open_file_system(location.scheme, location.root)
    except OSError:
        forget_file_system(location.scheme, location.root)
        raise

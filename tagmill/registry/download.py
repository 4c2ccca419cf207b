"""Download a bundle from a model store into the cache of this machine, and check it."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tagmill.errors import ConfigurationError
from tagmill.locations.schemes import StoredLocation
from tagmill.registry.bundle_cache import BundleCache
from tagmill.registry.store import BundleUnavailableError, StoreDownError
from tagmill.stores.whole_file import read_chunks, version_of

#: seconds before another attempt: of a download that broke off, or gave other bytes
_PAUSES = (0.5, 2.0)

_Result = TypeVar("_Result")


class _RemoteError(Exception):
    """An error of the store, not of this machine's disk."""

    def __init__(self, error: OSError) -> None:
        self.error = error


class _OtherBytesError(Exception):
    """What was downloaded has another sha256."""


def download(place: StoredLocation, cache: BundleCache, sha256: str) -> Path:
    """Download a bundle into the cache, and return its file there.

    Raise BundleUnavailableError if it is missing, damaged or may not be read, StoreDownError if the store does not
    answer, and OSError if the cache cannot be written to.
    """
    for pause in (*_PAUSES, None):
        try:
            version = _remote(lambda: version_of(place))
            if version == cache.refused(sha256):
                break
            return cache.write(sha256, lambda path: _fetch(place, path, sha256))
        except ConfigurationError as error:  # a package is not installed
            raise BundleUnavailableError(f"{place}: {error}", sha256) from error
        except _OtherBytesError:
            if pause is None:
                cache.refuse(sha256, version)
        except _RemoteError as failed:
            if not isinstance(failed.error, ConnectionError):
                raise _unavailable(place, sha256, failed.error) from None
            if pause is None:
                raise StoreDownError(f"{place}: {failed.error}; the model store does not answer") from None
        time.sleep(pause or 0)
    raise BundleUnavailableError(f"{place}: its sha256 differs from the registered one; add the model again", sha256)


def look_up(place: StoredLocation, sha256: str) -> None:
    """Raise as `download` does if a bundle is not in the store, or the store does not answer. Download nothing."""
    try:
        _remote(lambda: version_of(place))
    except ConfigurationError as error:  # a package is not installed
        raise BundleUnavailableError(f"{place}: {error}", sha256) from error
    except _RemoteError as failed:
        if not isinstance(failed.error, ConnectionError):
            raise _unavailable(place, sha256, failed.error) from None
        raise StoreDownError(f"{place}: {failed.error}; the model store does not answer") from None


def _fetch(place: StoredLocation, path: Path, sha256: str) -> None:
    digest, chunks = hashlib.sha256(), read_chunks(place)
    with path.open("wb") as out:
        while chunk := _remote(lambda: next(chunks, b"")):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != sha256:
        raise _OtherBytesError


def _remote(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except OSError as error:
        raise _RemoteError(error) from error


def _unavailable(place: StoredLocation, sha256: str, error: OSError) -> BundleUnavailableError:
    if isinstance(error, FileNotFoundError):
        detail = f"{error}; correct TAGMILL_MODEL_STORE, or add the model again"
    elif isinstance(error, PermissionError) and "check the" not in str(error):
        detail = f"{error}; let this worker's credentials read it"
    else:
        detail = str(error)
    return BundleUnavailableError(f"{place}: {detail}", sha256)

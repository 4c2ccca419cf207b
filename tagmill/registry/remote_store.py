"""Registered bundles in an object store or on a file system of another machine, and a cache of them on this one."""

import time
from functools import partial
from pathlib import Path

from tagmill.errors import InputError, ServiceDown
from tagmill.locations.schemes import StoredLocation
from tagmill.registry.bundle_cache import BundleCache
from tagmill.registry.download import download, look_up
from tagmill.registry.store import BundleUnavailableError
from tagmill.registry.verified_files import VerifiedFiles
from tagmill.stores.whole_file import delete, upload

#: seconds for which a bundle that was seen in the store is not looked up again
SEEN_SECONDS = 60.0


class RemoteStore:
    """Bundles named `<sha256>.onnx` below a prefix. See `ModelStore` for its methods.

    `path` and `verified` also raise StoreDownError if the store does not answer.
    """

    def __init__(self, prefix: StoredLocation, cache: BundleCache) -> None:
        self._prefix = prefix
        self._cache = cache
        self._verified = VerifiedFiles()
        #: sha256 -> until when a bundle counts as seen in the store, in monotonic seconds
        self._seen: dict[str, float] = {}

    def add(self, path: Path, sha256: str) -> StoredLocation:
        """Copy a bundle into the store and return its place. An interrupted copy never has the final name."""
        target = self._location(sha256)
        try:
            upload(path, target)
        except ConnectionError as error:
            raise ServiceDown(f"{target}: {error}; try again later") from None
        except OSError as error:
            raise InputError(f"{target}: {error}; TAGMILL_MODEL_STORE must be a place that you may write to") from None
        return target

    def remove(self, sha256: str) -> int:
        """Delete a bundle in the store and in the cache; return its bytes, 0 if there was none in the store."""
        target = self._location(sha256)
        self._cache.file(sha256).unlink(missing_ok=True)
        try:
            return delete(target)
        except ConnectionError as error:
            raise ServiceDown(f"{target}: {error}; try again later") from None
        except OSError as error:
            raise InputError(f"{target}: {error}; TAGMILL_MODEL_STORE must be a place that you may write to") from None

    def path(self, sha256: str) -> Path:
        """Return the path of the bundle in the cache; download it first if it is not there, or damaged."""
        if found := self._cache.find(sha256):
            return found
        try:
            with self._cache.locked():  # another process may have downloaded it meanwhile
                return self._cache.find(sha256) or download(self._location(sha256), self._cache, sha256)
        except OSError as error:
            detail = f"{self._cache.folder}: {error.strerror or error}; make room, or set TAGMILL_CACHE_FOLDER"
            raise BundleUnavailableError(f"{detail} to a folder that this user may write to", sha256) from error

    def require(self, sha256: str) -> None:
        """Raise BundleUnavailableError if a bundle is neither in the cache nor in the store. It is not downloaded.

        The store is asked again only after `SEEN_SECONDS`. Raise StoreDownError if it does not answer.
        """
        if self._cache.file(sha256).exists() or time.monotonic() < self._seen.get(sha256, 0.0):
            return
        look_up(self._location(sha256), sha256)
        self._seen[sha256] = time.monotonic() + SEEN_SECONDS

    def verified(self, sha256: str) -> Path:
        """Return the path as `path` does. A file that has not changed since then is not read again."""
        return self._verified.ensure(self._cache.file(sha256), self._cache.use, partial(self.path, sha256))

    def _location(self, sha256: str) -> StoredLocation:
        key = f"{self._prefix.key}/{sha256}.onnx".lstrip("/")
        return self._prefix._replace(key=key)

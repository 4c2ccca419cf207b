"""The folder of registered bundles, shared by all workers. `tagmill.registry.remote_store` is its like elsewhere."""

import shutil
from functools import partial
from pathlib import Path

from tagmill.bundles.metadata import sha256_of
from tagmill.errors import BundleError, InputError, ServiceDown
from tagmill.files import atomic_write
from tagmill.registry.verified_files import VerifiedFiles


class BundleUnavailableError(BundleError):
    """A registered bundle that this process does not find in its store, or cannot read there."""

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


class StoreDownError(ServiceDown):
    """A model store that does not answer: that says nothing about its bundles, nor about this worker."""


class ModelStore:
    """A folder of bundles named `<sha256>.onnx`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified = VerifiedFiles()

    def add(self, path: Path, sha256: str) -> Path:
        """Copy a bundle into the folder and return its path there. An interrupted copy never has the final name."""
        target = self._folder / f"{sha256}.onnx"
        if target.exists() and sha256_of(target) == sha256:
            return target
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise InputError(
                f"{self._folder}: {error.strerror}; set TAGMILL_MODEL_STORE to a writable folder"
            ) from error
        return target

    def remove(self, sha256: str) -> int:
        """Delete a bundle; return its bytes, 0 if there was none. Raise InputError if that is not allowed."""
        found = self._folder / f"{sha256}.onnx"
        try:
            size = found.stat().st_size
            found.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise InputError(f"{found}: {error.strerror}; TAGMILL_MODEL_STORE must be writable") from error
        return size

    def path(self, sha256: str) -> Path:
        """Return the path of a registered bundle. Raise BundleUnavailableError if it is missing or was changed."""
        found = self._folder / f"{sha256}.onnx"
        try:
            changed = sha256_of(found) != sha256
        except BundleError as error:
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                what = "is missing; share TAGMILL_MODEL_STORE with this worker, or add the model again"
            else:
                reason = getattr(error.__cause__, "strerror", None) or "cannot be read"
                what = f"{reason}; mount TAGMILL_MODEL_STORE again, or let the worker's user read it"
            raise BundleUnavailableError(f"{found}: {what}", sha256) from error
        if changed:
            raise BundleUnavailableError(
                f"{found}: sha256 differs from the registered one; add the model again", sha256
            )
        return found

    def require(self, sha256: str) -> None:
        """Raise BundleUnavailableError if there is no file of a bundle. It is not read."""
        found = self._folder / f"{sha256}.onnx"
        try:
            found.stat()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            what = f"{reason}; share TAGMILL_MODEL_STORE with this worker, or add the model again"
            raise BundleUnavailableError(f"{found}: {what}", sha256) from error

    def verified(self, sha256: str) -> Path:
        """Return the path as `path` does. A file that has not changed since then is not read again."""
        return self._verified.ensure(self._folder / f"{sha256}.onnx", Path.stat, partial(self.path, sha256))

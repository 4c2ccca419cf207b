"""The folder of registered bundles, shared by all workers."""

import shutil
from pathlib import Path

from tagmill.bundles.metadata import sha256_of
from tagmill.errors import BundleError, InputError
from tagmill.files import atomic_write


class ModelStore:
    """A folder of bundles named `<sha256>.onnx`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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

    def path(self, sha256: str) -> Path:
        """Return the path of a registered bundle. Raises BundleError if it is missing or was changed."""
        found = self._folder / f"{sha256}.onnx"
        if not found.is_file():
            raise BundleError(f"{found} is missing; share TAGMILL_MODEL_STORE with this worker, or add the model again")
        if sha256_of(found) != sha256:
            raise BundleError(f"{found}: sha256 differs from the registered one; add the model again")
        return found

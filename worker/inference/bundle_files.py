"""Where the file of a bundle is, by its sha256."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tagmill.bundles.spec import sha256_of
from tagmill.errors import BundleError, InputError


class BundleFiles(Protocol):
    """Finds bundles: the shared model store, or files named on a command line."""

    def path(self, sha256: str) -> Path:
        """Return the file with this sha256; raise BundleError if there is none."""
        ...


class NamedBundles:
    """Bundle files that a command names."""

    def __init__(self, files: dict[str, Path]) -> None:
        """`files`: sha256 -> path."""
        self.files = files

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "NamedBundles":
        """Return the bundles at these paths; raise InputError if the same bundle is named twice."""
        named = list(paths)
        files = {sha256_of(path): path for path in named}
        if len(files) < len(named):
            raise InputError("the same bundle is named twice")
        return cls(files)

    def path(self, sha256: str) -> Path:
        """Return the file with this sha256; raise BundleError if it was not named."""
        if sha256 not in self.files:
            raise BundleError(f"bundle {sha256[:12]} of this run is not among those named with --bundle")
        return self.files[sha256]

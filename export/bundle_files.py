"""Bundle files named on a command line, for a `SessionCache`."""

from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import BundleError


@dataclass(frozen=True)
class NamedBundles:
    """The bundle files named on the command line, by sha256."""

    files: dict[str, Path]

    def path(self, sha256: str) -> Path:
        """Return the file with this sha256; raise BundleError if none was named."""
        if sha256 not in self.files:
            raise BundleError(f"bundle {sha256[:12]} of this run is not among those named with --bundle")
        return self.files[sha256]

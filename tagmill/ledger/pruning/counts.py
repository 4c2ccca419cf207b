"""What a prune deletes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field


@dataclass
class Counts:
    """How many rows of each kind were deleted, or would be."""

    #: runs that are gone, and runs that lost the entries that a newer run replaced
    runs: int = 0
    thinned_runs: int = 0
    entries: int = 0
    #: distinct images with all that is known of them
    images: int = 0
    #: models whose results are gone, as NAME@VERSION, and how many results these were
    models: list[str] = field(default_factory=list)
    results: int = 0
    #: files and URLs that were known by an image that is gone
    known: int = 0
    #: bundles whose files are gone, as NAME@VERSION, and their bytes
    bundles: list[str] = field(default_factory=list)
    bundle_bytes: int = 0

    def to_json(self) -> dict[str, object]:
        """Return them as JSON values."""
        return asdict(self)

    @property
    def nothing(self) -> bool:
        """Return whether nothing was deleted."""
        return self == Counts()


#: told what is done now, how much of it is done, and how much there is; 0 if that is not known
Report = Callable[[str, int, int], None]

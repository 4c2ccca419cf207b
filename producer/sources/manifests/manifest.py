"""One manifest that is to be read: where it is, what problems call it, and how its rows become entries."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from producer.sources.base import Problem, Row
from producer.sources.options import ReadOptions


@dataclass(frozen=True)
class Manifest:
    """A manifest and how it is read."""

    #: what `open_location` opens
    location: str
    #: what problems call it
    label: str
    #: folder or prefix at which relative paths start
    base: str
    options: ReadOptions
    #: with it, keys are file names behind this prefix: a metadata file of a Hugging Face folder
    key_prefix: str | None = None

    def problem(self, line: int, message: str) -> Problem:
        """Return a problem of one line or row."""
        return Problem(f"{self.label}:{line}", message)


#: Reads one manifest in flat memory. It may raise OSError, which becomes a problem of the source.
ManifestReader = Callable[[Manifest], Iterator[Row | Problem]]


class ManifestError(Exception):
    """A manifest cannot be read further; the message says why."""

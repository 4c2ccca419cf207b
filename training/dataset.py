"""What labelled pictures are: examples, the arrays they are decoded into, and the parts of a set. Needs no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from training.legible import legible

#: mask value of a pixel that counts neither in training nor in a metric
IGNORE = 255

Labels = tuple[str, ...]


class IndexMap(Protocol):
    """What a mask is drawn from, where it is not stored as a picture."""

    def draw(self) -> NDArray[np.uint8]:
        """Return uint8 [H, W], the label index of each pixel of the upright picture."""


#: a category, several labels, the path of a mask, or what one is drawn from
Target = str | Labels | Path | IndexMap


class Use(StrEnum):
    """What a picture is for."""

    #: the weights are fitted to it
    TRAIN = "train"
    #: decides which epoch is kept, and calibrates
    VALIDATION = "validation"
    #: measured once, at the end
    TEST = "test"


@dataclass(frozen=True)
class Example:
    """One labelled picture."""

    picture: Path
    target: Target
    #: position of the --data folder it came from
    source: int = 0


@dataclass(frozen=True)
class Unreadable:
    """A picture that was skipped, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Arrays:
    """Decoded examples. `pixels`: uint8 [N, H, W, 3]; `sources`: int64 [N], which --data each one came from.

    `targets`: int64 [N] of one label each, uint8 [N, labels] of 0 and 1, or masks uint8 [N, H, W] where 255 is ignored.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[Any]
    sources: NDArray[np.int64]
    examples: list[Example]
    unreadable: list[Unreadable]
    #: sha256 of each picture's bytes
    digests: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, chosen: NDArray[np.int64]) -> "Arrays":
        """Return the examples at these positions."""
        examples = [self.examples[index] for index in chosen]
        digests = [self.digests[index] for index in chosen] if self.digests else []
        return Arrays(self.pixels[chosen], self.targets[chosen], self.sources[chosen], examples, [], digests)


@dataclass(frozen=True)
class Duplicate:
    """A picture whose bytes stand in two parts of a data set."""

    picture: Path
    use: Use
    #: the same bytes, measured on: validation or test
    copy: Path
    copy_use: Use


@dataclass(frozen=True)
class LabelledSet:
    """Decoded pictures to train on, to hold out and to test on, with no picture to train on in the other two."""

    labels: Labels
    train: Arrays
    validation: Arrays
    test: Arrays | None
    duplicates: tuple[Duplicate, ...]

    @property
    def parts(self) -> dict[str, Arrays]:
        """The pictures of each use that has any."""
        found = {Use.TRAIN: self.train, Use.VALIDATION: self.validation, Use.TEST: self.test}
        return {str(use): arrays for use, arrays in found.items() if arrays is not None}


@dataclass(frozen=True)
class Folders:
    """Where the pictures are. Several folders of one use are merged."""

    data: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return absolute paths, so that export finds them from anywhere."""
        uses = {"train": self.data, "validation": self.validation, "test": self.test}
        return {use: [str(folder.absolute()) for folder in folders] for use, folders in uses.items()}


def require_apart(run: Path, sources: Iterable[Path]) -> None:
    """Raise InputError where a run folder is, holds or lies in a folder of pictures: its figures are pictures, too."""
    own = run.resolve()
    for source in sources:
        pictures = source.resolve()
        if not source.is_file() and (own.is_relative_to(pictures) or pictures.is_relative_to(own)):
            raise InputError(f"--out {run}: must lie outside of the pictures {source}, and not around them")


def short_name(folder: Path) -> str:
    """Return the end of a path: what a reader of a bundle may know about the machine it was trained on."""
    return legible("/".join(folder.absolute().parts[-2:]))


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the short name of each, longer where two are alike; one that comes again is numbered."""
    paths = [folder.absolute().parts for folder in folders]
    names = []
    for number, path in enumerate(paths):
        others = set(paths) - {path}
        alone = (n for n in range(2, len(path)) if not any(other[-n:] == path[-n:] for other in others))
        again = paths[:number].count(path)
        name = legible(str(Path(*path[-next(alone, len(path)) :])))
        names.append(name + (f" ({again + 1})" if again else ""))
    return names

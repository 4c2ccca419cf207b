"""What labeled images are: examples, the arrays they are decoded into, and the parts of a set. Needs no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.text import legible

Labels = tuple[str, ...]


class IndexMap(Protocol):
    """What a mask is drawn from, where it is not stored as an image."""

    def draw(self) -> NDArray[np.uint8]:
        """Return uint8 [H, W], the label index of each pixel of the upright image."""


#: a category, several labels, the path of a mask, or what one is drawn from
Target = str | Labels | Path | IndexMap


class Use(StrEnum):
    """What an image is for."""

    #: the weights are fitted to it
    TRAIN = "train"
    #: decides which epoch is kept, and calibrates
    VALIDATION = "validation"
    #: measured once, at the end
    TEST = "test"


@dataclass(frozen=True)
class Example:
    """One labeled image."""

    picture: Path
    target: Target
    #: position of the --data folder it came from
    source: int = 0


@dataclass(frozen=True)
class Unreadable:
    """An image that was skipped, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Folders:
    """Where the images are. Several folders of one use are merged."""

    data: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return absolute paths, so that export finds them from anywhere."""
        uses = {"train": self.data, "validation": self.validation, "test": self.test}
        return {use: [str(folder.absolute()) for folder in folders] for use, folders in uses.items()}


def require_apart(run: Path, sources: Iterable[Path]) -> None:
    """Raise InputError where a run folder is, holds or lies in a folder of images: its figures are images, too."""
    own = run.resolve()
    for source in sources:
        pictures = source.resolve()
        if not source.is_file() and (own.is_relative_to(pictures) or pictures.is_relative_to(own)):
            raise InputError(f"--out {run}: must lie outside of the images {source}, and not around them")


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

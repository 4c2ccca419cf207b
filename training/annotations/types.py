"""Labeled images before they are decoded: examples, their targets, and what they are used for."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Labels = tuple[str, ...]


class IndexMap(Protocol):
    """A mask that is drawn when it is needed, because no image file holds it."""

    def draw(self) -> NDArray[np.uint8]:
        """Return uint8 [H, W], the label index of each pixel of the upright image."""


#: a category, several labels, the path of a mask, or a mask to draw
Target = str | Labels | Path | IndexMap


class Use(StrEnum):
    """What an image is used for."""

    #: the weights are fitted to it
    TRAIN = "train"
    #: it decides which epoch is kept, and calibrates the scores
    VALIDATION = "validation"
    #: it is measured once, at the end
    TEST = "test"


@dataclass(frozen=True)
class Example:
    """One labeled image."""

    image: Path
    target: Target
    #: position in --data of the folder or file that it came from
    source: int = 0


@dataclass(frozen=True)
class Unreadable:
    """An image that was skipped, and why."""

    path: Path
    reason: str

"""Labeled images decoded into arrays, and the parts of a data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.annotations.types import Example, Labels, Unreadable, Use


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
    """An image whose bytes stand in two parts of a data set."""

    picture: Path
    use: Use
    #: the same bytes, measured on: validation or test
    copy: Path
    copy_use: Use


@dataclass(frozen=True)
class LabeledSet:
    """Decoded images to train on, to hold out and to test on, with no image to train on in the other two."""

    labels: Labels
    train: Arrays
    validation: Arrays
    test: Arrays | None
    duplicates: tuple[Duplicate, ...]

    @property
    def parts(self) -> dict[str, Arrays]:
        """The images of each use that has any."""
        found = {Use.TRAIN: self.train, Use.VALIDATION: self.validation, Use.TEST: self.test}
        return {str(use): arrays for use, arrays in found.items() if arrays is not None}

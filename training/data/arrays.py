"""Labeled images decoded into arrays, and the training, validation and test images of a data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.metrics import IGNORE
from training.annotations.types import Example, Labels, Unreadable, Use


@dataclass(frozen=True)
class Arrays:
    """Decoded examples. `pixels`: uint8 [N, H, W, 3]; `sources`: int64 [N], the position in --data of each.

    `targets`: int64 [N] of one label each, uint8 [N, labels] of 0 and 1, or masks uint8 [N, H, W] where 255 is ignored.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[Any]
    sources: NDArray[np.int64]
    examples: list[Example]
    unreadable: list[Unreadable]
    #: sha256 of the bytes of each image file
    digests: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, positions: NDArray[np.int64]) -> "Arrays":
        """Return the examples at these positions."""
        examples = [self.examples[position] for position in positions]
        digests = [self.digests[position] for position in positions] if self.digests else []
        return Arrays(self.pixels[positions], self.targets[positions], self.sources[positions], examples, [], digests)

    def images_per_label(self, labels: int) -> NDArray[np.int64]:
        """Return how many images have each label, or a pixel of it, int64 [labels]."""
        if self.targets.ndim == 1:
            return np.bincount(self.targets, minlength=labels)
        if self.targets.ndim == 2:
            return np.asarray(self.targets.sum(axis=0), dtype=np.int64)
        counts = np.zeros(labels, dtype=np.int64)
        for mask in self.targets:
            counts += np.bincount(mask[mask != IGNORE], minlength=labels)[:labels] > 0
        return counts


def spread(values: NDArray[Any], count: int) -> NDArray[Any]:
    """Return at least `count` of the values at equal distances, or all of them if there are fewer."""
    return values[:: max(1, len(values) // count)]


@dataclass(frozen=True)
class Duplicate:
    """An image whose bytes are also in another split of the data set."""

    image: Path
    use: Use
    #: the file with the same bytes in the validation or test images
    copy: Path
    copy_use: Use


@dataclass(frozen=True)
class LabeledSet:
    """Decoded images for training, validation and test. No training image is in the other two."""

    labels: Labels
    train: Arrays
    validation: Arrays
    test: Arrays | None
    duplicates: tuple[Duplicate, ...]

    def summary(self) -> str:
        """Return the number of labels, and of images in each split, as one clause."""
        tests = len(self.test) if self.test else 0
        return (
            f"{len(self.labels)} labels; {len(self.train)} images to train on, {len(self.validation)} held out, "
            f"{tests} to test on"
        )

    @property
    def splits(self) -> dict[str, Arrays]:
        """The images by use; without a test set there is no `test`."""
        by_use = {Use.TRAIN: self.train, Use.VALIDATION: self.validation, Use.TEST: self.test}
        return {str(use): arrays for use, arrays in by_use.items() if arrays is not None}

"""Split images into training, validation and test, so that no training image is in the other two."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from training.annotations.types import Example, Labels, Use
from training.data.arrays import Arrays, Duplicate, LabeledSet

#: share of the training images that is held out without --validation
HELD_OUT = 0.1
#: duplicates that are named; the rest are counted
NAMED = 3


def build_splits(
    labels: Labels,
    loaded: tuple[Arrays, Arrays | None, Arrays | None],
    groups: NDArray[np.int64],
    seed: int,
    display: Display,
) -> LabeledSet:
    """Return the loaded training, validation and test images, without copies of the latter two in the training images.

    If no validation images were loaded, a tenth of each of `groups`, int64 [N], is held out. Raise InputError if
    nothing is left to train on.
    """
    train, validation, test = loaded
    measured = _by_digest(validation, Use.VALIDATION) | _by_digest(test, Use.TEST)
    kept, duplicates = _without_copies(train, np.arange(len(train)), measured)
    if validation is None and len(kept):
        chosen, held_out = stratified_split(groups[kept], HELD_OUT, seed)
        validation = train.select(kept[held_out])
        kept, more = _without_copies(train, kept[chosen], _by_digest(validation, Use.VALIDATION))
        duplicates += more
    if not len(kept) or validation is None:
        raise InputError("every image to train on is one of --validation or --test, too; name others there")
    if test is not None:
        _, both = _without_copies(
            validation, np.arange(len(validation)), _by_digest(test, Use.TEST), use=Use.VALIDATION
        )
        duplicates += both
    _report(duplicates, display)
    if len(kept) < len(train):
        train = replace(train.select(kept), unreadable=train.unreadable)
    return LabeledSet(labels, train, validation, test, tuple(duplicates))


def stratified_split(groups: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions to train on and the positions held out.

    Of each group `share` is held out, and at least one of any two or more.
    """
    random = np.random.default_rng(seed)
    held: list[NDArray[np.int64]] = []
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))
        held.append(members[: max(1, round(len(members) * share)) if len(members) > 1 else 0])
    held_out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(groups)), held_out), held_out


def label_groups(arrays: Arrays, labels: int) -> NDArray[np.int64]:
    """Return the group to stratify each image by, int64 [N]: its source and its label, of several the rarest."""
    main: NDArray[np.int64] = arrays.targets
    if main.ndim == 2:
        order = np.argsort(main.sum(axis=0), kind="stable")
        rarest = order[main[:, order].argmax(axis=1)]
        main = np.where(main.any(axis=1), rarest, labels)
    return arrays.sources * (labels + 1) + main


Measured = dict[bytes, tuple[Use, Example]]


def _by_digest(arrays: Arrays | None, use: Use) -> Measured:
    if arrays is None:
        return {}
    return {digest: (use, example) for digest, example in zip(arrays.digests, arrays.examples, strict=True)}


def _without_copies(
    arrays: Arrays, positions: NDArray[np.int64], measured: Measured, use: Use = Use.TRAIN
) -> tuple[NDArray[np.int64], list[Duplicate]]:
    """Return the positions whose image is not in `measured`, and the others as duplicates."""
    kept, duplicates = [], []
    for position in positions.tolist():
        found = measured.get(arrays.digests[position])
        if found is None:
            kept.append(position)
        else:
            duplicates.append(Duplicate(arrays.examples[position].image, use, found[1].image, found[0]))
    return np.array(kept, dtype=np.int64), duplicates


def _report(duplicates: Sequence[Duplicate], display: Display) -> None:
    """Show the duplicates: training images that are left out, and validation images that stay."""
    for use, what in ((Use.TRAIN, "not trained on"), (Use.VALIDATION, "held out all the same")):
        found = [duplicate for duplicate in duplicates if duplicate.use is use]
        for duplicate in found[:NAMED]:
            display.say(f"{what}: {duplicate.image} has the bytes of the {duplicate.copy_use} image {duplicate.copy}")
        if len(found) > NAMED:
            display.say(f"{what}: {len(found) - NAMED} more copies")

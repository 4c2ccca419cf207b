"""Divide images into those to train on, to hold out and to test on, with no image on both sides."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.progress import Display
from tagmill.errors import InputError
from training.annotations.types import Example, Labels, Use
from training.data.arrays import Arrays, Duplicate, LabeledSet

#: share of the training images held out where no --validation is named
HELD_OUT = 0.1
#: duplicates that are named; the rest are counted
NAMED = 3


def divide(
    labels: Labels,
    read: tuple[Arrays, Arrays | None, Arrays | None],
    groups: NDArray[np.int64],
    seed: int,
    display: Display,
) -> LabeledSet:
    """Return the parts: what was read to train on, to hold out and to test on, less the copies among the first.

    Of each of `groups`, int64 [N], a tenth is held out where no images to hold out were read. Raises InputError
    where nothing is left to train on.
    """
    train, validation, test = read
    measured = _places(validation, Use.VALIDATION) | _places(test, Use.TEST)
    kept, duplicates = _clear_of(train, np.arange(len(train)), measured)
    if validation is None and len(kept):
        chosen, out = split(groups[kept], HELD_OUT, seed)
        validation = train.part(kept[out])
        kept, more = _clear_of(train, kept[chosen], _places(validation, Use.VALIDATION))
        duplicates += more
    if not len(kept) or validation is None:
        raise InputError("every image to train on is one of --validation or --test, too; name others there")
    if test is not None:
        _, both = _clear_of(validation, np.arange(len(validation)), _places(test, Use.TEST), Use.VALIDATION)
        duplicates += both
    _report(duplicates, display)
    if len(kept) < len(train):
        train = replace(train.part(kept), unreadable=train.unreadable)
    return LabeledSet(labels, train, validation, test, tuple(duplicates))


def split(groups: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions to train on and those held out: `share` of each group, at least one of any two or more."""
    random = np.random.default_rng(seed)
    held: list[NDArray[np.int64]] = []
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))
        held.append(members[: max(1, round(len(members) * share)) if len(members) > 1 else 0])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(groups)), chosen), chosen


def label_groups(arrays: Arrays, labels: int) -> NDArray[np.int64]:
    """Return what each image is stratified by, int64 [N]: its source and its label, of several the rarest."""
    main: NDArray[np.int64] = arrays.targets
    if main.ndim == 2:
        order = np.argsort(main.sum(axis=0), kind="stable")
        rarest = order[main[:, order].argmax(axis=1)]
        main = np.where(main.any(axis=1), rarest, labels)
    return arrays.sources * (labels + 1) + main


Places = dict[bytes, tuple[Use, Example]]


def _places(arrays: Arrays | None, use: Use) -> Places:
    if arrays is None:
        return {}
    return {digest: (use, example) for digest, example in zip(arrays.digests, arrays.examples, strict=True)}


def _clear_of(
    arrays: Arrays, positions: NDArray[np.int64], measured: Places, use: Use = Use.TRAIN
) -> tuple[NDArray[np.int64], list[Duplicate]]:
    """Return which of the positions hold no image of `measured`, and the others as duplicates."""
    kept, duplicates = [], []
    for position in positions.tolist():
        found = measured.get(arrays.digests[position])
        if found is None:
            kept.append(position)
        else:
            duplicates.append(Duplicate(arrays.examples[position].picture, use, found[1].picture, found[0]))
    return np.array(kept, dtype=np.int64), duplicates


def _report(duplicates: Sequence[Duplicate], display: Display) -> None:
    for use, what in ((Use.TRAIN, "not trained on"), (Use.VALIDATION, "held out all the same")):
        found = [duplicate for duplicate in duplicates if duplicate.use is use]
        for duplicate in found[:NAMED]:
            display.say(f"{what}: {duplicate.picture} has the bytes of the {duplicate.copy_use} image {duplicate.copy}")
        if len(found) > NAMED:
            display.say(f"{what}: {len(found) - NAMED} more copies")

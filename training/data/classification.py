"""Read the labeled images of a classifier: its labels, and what it is trained, validated and tested on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tagmill.cli.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.text import require_legible
from training.annotations.image_files import Found
from training.annotations.open import example, read_tagged
from training.annotations.types import Example, Folders, Labels
from training.data.arrays import Arrays, LabeledSet
from training.data.decode import load_categories
from training.data.split import divide, label_groups


def read_labeled(
    folders: Folders, spec: PreprocessSpec, seed: int, display: Display, multilabel: bool = False
) -> LabeledSet:
    """Return all images, decoded; a tenth of each category is held out where no validation is named.

    Raises InputError for an empty category, a single one, one that the training images do not have, or one whose name
    cannot be shown, and NothingToDo where no image can be read.
    """
    sources = _tagged(folders.data, display)
    for source, found in zip(folders.data, sources, strict=True):
        if found.empty:
            raise InputError(f"{source}: category {found.empty[0]} holds no image; add some or remove the folder")
        require_legible(sorted({label for tagged in found.pictures for label in tagged.labels}), source)
    labels = tuple(sorted({label for found in sources for tagged in found.pictures for label in tagged.labels}))
    if len(labels) < 2 and not (labels and multilabel):
        held = f"one category, {labels[0]}" if labels else "no label"
        raise InputError(f"{folders.data[0]}: holds {held}; a classifier needs at least two")
    examples = [
        example(tagged, number, multilabel) for number, found in enumerate(sources) for tagged in found.pictures
    ]
    whose = "one of the training images'"
    held_out = known_examples(folders.validation, labels, multilabel, whose, display)
    tests = known_examples(folders.test, labels, multilabel, whose, display)

    def read(name: str, chosen: list[Example]) -> Arrays | None:
        if not chosen:
            return None
        with display.reading(name, len(chosen)) as step:
            arrays = load_categories(chosen, labels, spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    train = read("training images", examples)
    assert train is not None
    parts = (train, read("validation images", held_out), read("test images", tests))
    divided = divide(labels, parts, label_groups(train, len(labels)), seed, display)
    _check(divided, folders.data[0])
    return divided


def known_examples(
    sources: Sequence[Path], labels: Labels, multilabel: bool, whose: str, display: Display
) -> list[Example]:
    """Return the labeled images of all sources. Raises InputError for a category that is not `whose` labels."""
    examples = []
    for number, found in enumerate(_tagged(sources, display)):
        for tagged in found.pictures:
            if unknown := [label for label in tagged.labels if label not in labels]:
                raise InputError(f"{tagged.place}: category {unknown[0]} is not {whose}: {', '.join(labels)}")
            examples.append(example(tagged, number, multilabel))
    return examples


def _tagged(sources: Sequence[Path], display: Display) -> list[Found]:
    all_found = [read_tagged(source) for source in sources]
    for found in all_found:
        for remark in found.remarks:
            display.say(remark)
    return all_found


def _check(divided: LabeledSet, where: Path) -> None:
    """Raise InputError where a category, or all that is held out, has no image left."""
    targets = divided.train.targets
    counts = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(divided.labels))
    if not len(divided.validation) or len(targets) < 2:
        raise InputError(f"{where}: too few readable images; each category needs two or more")
    if not counts.all():
        category = divided.labels[int(np.flatnonzero(counts == 0)[0])]
        raise InputError(f"{where}: no image of category {category} is left to train on; add some or remove it")
    if (targets == targets[0]).all():  # of several labels: of one label an image, two categories are left here
        raise InputError(
            f"{where}: all images to train on have the same labels, {', '.join(divided.labels)}, so there is nothing "
            "to learn; add some without them"
        )

"""Read the labeled images of a classifier for training, validation and test."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.text import legible, require_legible
from training.annotations.folders import Folders
from training.annotations.image_files import LabeledImages
from training.annotations.json_fields import NAMED
from training.annotations.open import read_labeled_images, to_example
from training.annotations.types import Example, Labels
from training.data.arrays import Arrays, LabeledSet
from training.data.decode import load_labeled
from training.data.split import build_splits, label_groups


def read_labeled(
    folders: Folders, spec: PreprocessSpec, seed: int, display: Display, multilabel: bool = False
) -> LabeledSet:
    """Return all images, decoded. Without validation folders, a tenth of each category is held out.

    Raise InputError for an empty category, a single one, one that the training images do not have, or one whose name
    cannot be shown. Raise NothingToDo if no image can be read.
    """
    sources = _read_sources(folders.data, multilabel, display)
    for path, source in zip(folders.data, sources, strict=True):
        if source.empty:
            raise InputError(f"{path}: category {source.empty[0]} holds no image; add some or remove the folder")
        require_legible(sorted({label for labeled in source.images for label in labeled.labels}), path)
    labels = tuple(sorted({label for source in sources for labeled in source.images for label in labeled.labels}))
    if len(labels) < 2 and not (labels and multilabel):
        held = f"one category, {labels[0]}" if labels else "no label"
        raise InputError(f"{folders.data[0]}: holds {held}; a classifier needs at least two")
    examples = [
        to_example(labeled, number, multilabel) for number, source in enumerate(sources) for labeled in source.images
    ]
    whose = "one of the training images'"
    held_out = known_examples(folders.validation, labels, multilabel, whose, display)
    tests = known_examples(folders.test, labels, multilabel, whose, display)

    def load(name: str, chosen: list[Example]) -> Arrays | None:
        if not chosen:
            return None
        with display.reading(name, len(chosen)) as step:
            arrays = load_labeled(chosen, labels, spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    train = load("training images", examples)
    assert train is not None
    loaded = (train, load("validation images", held_out), load("test images", tests))
    data = build_splits(labels, loaded, label_groups(train, len(labels)), seed, display)
    _check(data, folders.data[0])
    return data


def known_examples(
    sources: Sequence[Path], labels: Labels, multilabel: bool, whose: str, display: Display
) -> list[Example]:
    """Return the labeled images of all sources.

    Raise InputError for a label that is not in `labels`; `whose` says in the message whose labels those are.
    """
    examples = []
    for number, source in enumerate(_read_sources(sources, multilabel, display)):
        for labeled in source.images:
            if unknown := [label for label in labeled.labels if label not in labels]:
                raise InputError(f"{labeled.place}: category {unknown[0]} is not {whose}: {', '.join(labels)}")
            examples.append(to_example(labeled, number, multilabel))
    return examples


def _read_sources(paths: Sequence[Path], multilabel: bool, display: Display) -> list[LabeledImages]:
    """Return the images of each source, and show what was left out. Without `multilabel`, each needs a label."""
    sources = [read_labeled_images(path) for path in paths]
    for number, (path, source) in enumerate(zip(paths, sources, strict=True)):
        if not multilabel:
            sources[number] = source = _with_labels(path, source)
        for note in source.notes:
            display.say(note)
    return sources


def _with_labels(path: Path, source: LabeledImages) -> LabeledImages:
    """Return a source without the images that have no label; all of them if none has one."""
    labeled = [image for image in source.images if image.labels]
    without = [legible(image.image.name) for image in source.images if not image.labels]
    if not without or not labeled:
        return source
    named = ", ".join(without[:NAMED]) + (", ..." if len(without) > NAMED else "")
    note = f"{path}: {len(without)} images without a label are left out: {named}"
    return replace(source, images=labeled, notes=(*source.notes, note))


def _check(data: LabeledSet, place: Path) -> None:
    """Raise InputError if no image of a category, or nothing to validate on, is left."""
    targets = data.train.targets
    if not len(data.validation) or len(targets) < 2:
        raise InputError(f"{place}: too few readable images; each category needs two or more")
    counts = data.train.images_per_label(len(data.labels))
    if not counts.all():
        category = data.labels[int(np.flatnonzero(counts == 0)[0])]
        raise InputError(f"{place}: no image of category {category} is left to train on; add some or remove it")
    # Only possible with several labels per image: with one each, images of two categories are left here.
    if (targets == targets[0]).all():
        raise InputError(
            f"{place}: all images to train on have the same labels, {', '.join(data.labels)}, so there is nothing "
            "to learn; add some without them"
        )

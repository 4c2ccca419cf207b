"""Read the images and masks of a segmenter: its labels, and what it is trained, validated and tested on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.figures import IGNORE
from tagmill.text import require_legible
from training.annotations.mask_folders import MaskedSource
from training.annotations.open import read_masked_source
from training.annotations.types import Folders, Labels
from training.data.arrays import Arrays, LabeledSet
from training.data.decode import load_masks
from training.data.split import divide

#: labels without a pixel that are named; the rest are counted
NAMED = 8
#: share of ignored pixels from which on it is told
WORTH_TELLING = 0.001


def read_masked(folders: Folders, spec: PreprocessSpec, seed: int, display: Display) -> LabeledSet:
    """Return all images and masks, decoded; a tenth is held out where no validation is named.

    The labels of the first --data are the model's. Raises InputError for labels that it does not have or whose names
    cannot be shown, and where the masks hold fewer than two labels to learn; NothingToDo where no image can be read.
    """
    uses = (folders.data, folders.validation, folders.test)
    training, held_out, tests = (read_all(sources, display) for sources in uses)
    labels = training[0].labels
    require_legible(labels, training[0].place)
    tables = {source.place: source.table(labels) for source in (*training, *held_out, *tests)}

    def read(name: str, sources: list[MaskedSource]) -> Arrays | None:
        if not sources:
            return None
        examples = [example for source in sources for example in source.examples]
        with display.reading(name, len(examples)) as step:
            arrays = load_masks(examples, [tables[source.place] for source in sources], spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    train = read("training images", training)
    assert train is not None
    parts = (train, read("validation images", held_out), read("test images", tests))
    found = divide(labels, parts, train.sources * 256 + _main_labels(train.targets), seed, display)
    if not len(found.validation) or len(found.train) < 2:
        raise InputError(f"{folders.data[0]}: too few readable images; a training needs at least four")
    areas = label_pixels(found.train.targets)
    _check(labels, areas, folders.data[0])
    for remark in mask_remarks(labels, areas):
        display.say(remark)
    return found


def mask_remarks(labels: Labels, areas: NDArray[np.int64]) -> list[str]:
    """Return what masks to train on with these `label_pixels` leave unlearned."""
    missing = [label for number, label in enumerate(labels) if not areas[number]]
    named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
    told = [f"No mask to train on has a pixel of {named}: the model cannot know that."] if missing else []
    if (ignored := areas[IGNORE] / max(1, areas.sum())) >= WORTH_TELLING:
        told.append(f"{ignored:.1%} of the pixels to train on are 255 or the number of no label, and were ignored.")
    return told


def label_pixels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many pixels each value has, int64 [256]."""
    found = np.zeros(256, dtype=np.int64)
    for mask in masks:
        found += np.bincount(mask.ravel(), minlength=256)
    return found


def read_all(sources: Sequence[Path], display: Display) -> list[MaskedSource]:
    """Return what each source holds, its examples numbered by it; say what was left out."""
    all_found = [read_masked_source(source, number) for number, source in enumerate(sources)]
    for found in all_found:
        for remark in found.remarks:
            display.say(remark)
    return all_found


def _check(labels: Labels, areas: NDArray[np.int64], where: Path) -> None:
    """Raise InputError where there is nothing to tell apart."""
    learned = [label for number, label in enumerate(labels) if areas[number]]
    if len(learned) < 2:
        held = f"no label but {learned[0]}" if learned else "no label"
        raise InputError(
            f"{where}: the masks to train on have pixels of {held}, so there is nothing to learn; each value of a mask "
            "is the position of its label in labels.json (0 and 1, not 0 and 255), and COCO needs annotations"
        )


def _main_labels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the largest label of each image apart from background, so that the split holds some of each."""
    found = []
    for mask in masks:
        areas = np.bincount(mask[(mask != IGNORE) & (mask != 0)], minlength=1)
        found.append(int(areas.argmax()))
    return np.array(found, dtype=np.int64)

"""Read the pictures and masks of a segmenter: its labels, and what it is trained, validated and tested on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.preprocess import PreprocessSpec
from training.dataset import IGNORE, Arrays, Folders, LabelledSet
from training.loading import load_masks
from training.mask_folders import MaskedSource
from training.parts import divide
from training.progress import Display
from training.sources import read_masked_source


def read_masked(folders: Folders, spec: PreprocessSpec, seed: int, display: Display) -> LabelledSet:
    """Return all pictures and masks, decoded; a tenth is held out where no validation is named.

    The labels of the first --data are the model's. Raises InputError for labels that it does not have, and
    NothingToDo where no picture can be read.
    """
    uses = (folders.data, folders.validation, folders.test)
    training, held_out, tests = (read_all(sources, display) for sources in uses)
    labels = training[0].labels
    tables = {source.place: source.table(labels) for source in (*training, *held_out, *tests)}

    def read(name: str, sources: list[MaskedSource]) -> Arrays | None:
        if not sources:
            return None
        examples = [example for source in sources for example in source.examples]
        with display.reading(name, len(examples)) as step:
            arrays = load_masks(examples, [tables[source.place] for source in sources], spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    train = read("training pictures", training)
    assert train is not None
    parts = (train, read("validation pictures", held_out), read("test pictures", tests))
    found = divide(labels, parts, train.sources * 256 + _main_labels(train.targets), seed, display)
    if not len(found.validation) or len(found.train) < 2:
        raise InputError(f"{folders.data[0]}: too few readable pictures; a training needs at least four")
    return found


def read_all(sources: Sequence[Path], display: Display) -> list[MaskedSource]:
    """Return what each source holds, its examples numbered by it; say what was left out."""
    all_found = [read_masked_source(source, number) for number, source in enumerate(sources)]
    for found in all_found:
        for remark in found.remarks:
            display.say(remark)
    return all_found


def _main_labels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the largest label of each picture apart from background, so that the split holds some of each."""
    found = []
    for mask in masks:
        areas = np.bincount(mask[(mask != IGNORE) & (mask != 0)], minlength=1)
        found.append(int(areas.argmax()))
    return np.array(found, dtype=np.int64)

"""Read the images and masks of a segmenter for training, validation and test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.metrics import IGNORE
from tagmill.text import require_legible
from training.annotations.folders import Folders
from training.annotations.mask_folders import MaskedImages
from training.annotations.open import read_masked_images
from training.annotations.types import Example, Labels
from training.data.arrays import Arrays, LabeledSet
from training.data.decode import load_masked
from training.data.split import build_splits

#: labels without a pixel that are named; the rest are counted
NAMED = 8
#: share of ignored pixels from which on it is mentioned
MENTIONED_IGNORED = 0.001


def read_masked(folders: Folders, spec: PreprocessSpec, seed: int, display: Display) -> LabeledSet:
    """Return all images and masks, decoded. Without validation folders, a tenth is held out.

    The labels of the first --data are the model's. Raise InputError for a label that it does not have, for a label
    whose name cannot be shown, and if the masks hold fewer than two labels to learn. Raise NothingToDo if no image can
    be read.
    """
    uses = (folders.data, folders.validation, folders.test)
    training, held_out, tests = (_read_sources(sources, display) for sources in uses)
    labels = training[0].labels
    require_legible(labels, training[0].place)
    tables = {source.place: source.table(labels) for source in (*training, *held_out, *tests)}

    def load(name: str, sources: list[MaskedImages]) -> Arrays | None:
        if not sources:
            return None
        examples = [example for source in sources for example in source.examples]
        with display.reading(name, len(examples)) as step:
            arrays = load_masked(examples, [tables[source.place] for source in sources], spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    train = load("training images", training)
    assert train is not None
    loaded = (train, load("validation images", held_out), load("test images", tests))
    data = build_splits(labels, loaded, train.sources * 256 + _main_labels(train.targets), seed, display)
    if not len(data.validation) or len(data.train) < 2:
        raise InputError(f"{folders.data[0]}: too few readable images; a training needs at least four")
    pixels = pixels_per_value(data.train.targets)
    _check(labels, pixels, folders.data[0])
    for caveat in mask_caveats(labels, pixels):
        display.say(caveat)
    return data


def known_masked_examples(
    sources: Sequence[Path], labels: Labels, display: Display
) -> tuple[list[Example], list[NDArray[np.uint8]]]:
    """Return the masked images of all sources, and for each source the table from its mask values to `labels`.

    Raise InputError for a label that is not in `labels`.
    """
    masked = _read_sources(sources, display)
    return [example for source in masked for example in source.examples], [source.table(labels) for source in masked]


def mask_caveats(labels: Labels, pixels: NDArray[np.int64]) -> list[str]:
    """Return sentences about what the training masks do not teach; `pixels` are their `pixels_per_value`."""
    missing = [label for number, label in enumerate(labels) if not pixels[number]]
    named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
    caveats = [f"No training mask has a pixel of {named}: the model cannot predict that."] if missing else []
    if (ignored := pixels[IGNORE] / max(1, pixels.sum())) >= MENTIONED_IGNORED:
        caveats.append(
            f"{ignored:.1%} of the training pixels were ignored: their value is 255, or a number without a label."
        )
    return caveats


def pixels_per_value(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many pixels each mask value has, int64 [256]."""
    counts = np.zeros(256, dtype=np.int64)
    for mask in masks:
        counts += np.bincount(mask.ravel(), minlength=256)
    return counts


def _read_sources(paths: Sequence[Path], display: Display) -> list[MaskedImages]:
    """Return the images of each source, numbered by source, and show what was left out."""
    sources = [read_masked_images(path, number) for number, path in enumerate(paths)]
    for source in sources:
        for note in source.notes:
            display.say(note)
    return sources


def _check(labels: Labels, pixels: NDArray[np.int64], place: Path) -> None:
    """Raise InputError if the masks hold fewer than two labels."""
    learned = [label for number, label in enumerate(labels) if pixels[number]]
    if len(learned) < 2:
        held = f"no label but {learned[0]}" if learned else "no label"
        raise InputError(
            f"{place}: the masks to train on have pixels of {held}, so there is nothing to learn; each value of a mask "
            "is the position of its label in labels.json (0 and 1, not 0 and 255), and COCO needs annotations"
        )


def _main_labels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the largest label of each mask other than the background, to stratify the split by."""
    main = []
    for mask in masks:
        pixels = np.bincount(mask[(mask != IGNORE) & (mask != 0)], minlength=1)
        main.append(int(pixels.argmax()))
    return np.array(main, dtype=np.int64)

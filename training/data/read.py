"""Read the images and targets of a task: labels or masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.terminal.progress import Display
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task
from training.annotations.folders import Folders
from training.annotations.types import Example, Labels
from training.data.arrays import LabeledSet
from training.data.classification import known_examples, read_labeled
from training.data.segmentation import known_masked_examples, read_masked


def read_data(task: Task, folders: Folders, spec: PreprocessSpec, seed: int, display: Display) -> LabeledSet:
    """Return the training, validation and test images of a task, decoded.

    Without validation folders, a tenth of the training images is held out; `seed` decides which. Raise InputError for
    data that the task cannot learn from, and NothingToDo if no image can be read.
    """
    if task.gives_masks:
        return read_masked(folders, spec, seed, display)
    return read_labeled(folders, spec, seed, display, task.multilabel)


def read_examples(
    task: Task, sources: Sequence[Path], labels: Labels, whose: str, display: Display
) -> tuple[list[Example], list[NDArray[np.uint8]]]:
    """Return the examples of all sources, not decoded, to measure a model with these labels on.

    For masks, also return for each source the table from its mask values to `labels`, uint8 [256]; else an empty list.
    Raise InputError for a label that is not in `labels`; `whose` says in the message whose labels those are.
    """
    if task.gives_masks:
        return known_masked_examples(sources, labels, display)
    return known_examples(sources, labels, task.multilabel, whose, display), []

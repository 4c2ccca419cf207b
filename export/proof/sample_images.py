"""Read the images of a training run again, to prove and to measure its bundle."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.outcomes import ImageFailure
from training.annotations.folders import Folders
from training.annotations.open import list_images
from training.checkpoint import Checkpoint
from training.data.arrays import LabeledSet
from training.data.decode import read_image
from training.data.read import read_data

#: most images on which a bundle is compared with torch
SAMPLES = 200
#: most images that an embedding's components are chosen on
TRAINING_SAMPLES = 2000

_ONLY_FP32 = "fewer bits are measured on them, so only --precision fp32 is possible"


def sample_images(checkpoint: Checkpoint, samples: Path | None = None) -> NDArray[np.uint8]:
    """Return up to 200 images, uint8 [N, H, W, 3]: of `samples`, or of the run's test, validation or train folders.

    Raise InputError if none can be read.
    """
    if samples is not None:
        return _read_some([samples], checkpoint.preprocess)
    for use in ("test", "validation", "train"):
        if folders := [Path(folder) for folder in checkpoint.data.get(use, []) if Path(folder).exists()]:
            return _read_some(folders, checkpoint.preprocess)
    raise InputError(f"{_missing(checkpoint)}; name a folder of images with --samples")


def training_images(checkpoint: Checkpoint, samples: Path | None = None) -> NDArray[np.uint8]:
    """Return up to 2,000 images that the run was trained on, or those of `samples`, uint8 [N, H, W, 3].

    Raise InputError if none can be read.
    """
    folders = [Path(folder) for folder in checkpoint.data.get("train", [])] if samples is None else [samples]
    if not folders:
        raise InputError(f"{_missing(checkpoint)}; name a folder of images with --samples")
    return _read_some(folders, checkpoint.preprocess, TRAINING_SAMPLES)


def labeled_images(checkpoint: Checkpoint, display: Display) -> LabeledSet:
    """Return the images of the run, split as in training.

    Raise InputError if a folder is gone, or if the run names no training images.
    """
    named = [Path(folder) for folders in checkpoint.data.values() for folder in folders]
    if not all(folder.exists() for folder in named):
        raise InputError(f"{_missing(checkpoint)}; {_ONLY_FP32}")
    if not checkpoint.data.get("train"):
        raise InputError(f"the checkpoint of this run names no images that it was trained on; {_ONLY_FP32}")
    folders = Folders(*(tuple(map(Path, checkpoint.data.get(use, []))) for use in ("train", "validation", "test")))
    found = read_data(checkpoint.task, folders, checkpoint.preprocess, checkpoint.seed, display)
    if tuple(found.labels) != tuple(checkpoint.labels):
        raise InputError(f"the images of this run have other labels than when it was trained; {_ONLY_FP32}")
    return found


def _missing(checkpoint: Checkpoint) -> str:
    named = ", ".join(folder for folders in checkpoint.data.values() for folder in folders)
    return f"the images of this run are gone ({named})" if named else "the checkpoint of this run names no images"


def _read_some(folders: list[Path], spec: PreprocessSpec, most: int = SAMPLES) -> NDArray[np.uint8]:
    found: list[Path] = []
    share = -(-most // len(folders))
    for folder in folders:
        if not folder.exists():
            raise InputError(f"{folder}: is not a folder; name a folder of images with --samples")
        # Evenly spaced over the sorted names, so that every category has some.
        if paths := list_images(folder):
            found += [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, share).astype(int))]
    images = []
    for path in found:
        try:
            images.append(read_image(path, spec))
        except ImageFailure:
            continue  # training has named it already
    if not images:
        raise InputError(f"{folders[0]}: no readable image to prove the bundle on; name a folder with --samples")
    return np.stack(images)

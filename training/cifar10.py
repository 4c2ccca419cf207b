"""CIFAR-10 as folders of pictures, downloaded through torchvision once."""

import os
import shutil
from pathlib import Path

import torchvision

from tagmill.errors import InputError
from training.progress import Display

#: what --data and --test call it
NAME = "cifar10"


def cifar10(root: Path | None = None, display: Display | None = None) -> tuple[Path, Path]:
    """Return the folders of the training and the test pictures: lossless PNGs, a folder for each category.

    As folders they serve training, the proof of an export and `tagmill evaluate` alike. Raises InputError where they
    cannot be downloaded.
    """
    root = root or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagmill" / NAME
    folders = root / "train", root / "test"
    for folder, train in zip(folders, (True, False), strict=True):
        if not folder.is_dir():
            _unpack(root, folder, train, display or Display())
    return folders


def _unpack(root: Path, folder: Path, train: bool, display: Display) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        stored = torchvision.datasets.CIFAR10(root / "download", train=train, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"CIFAR-10 cannot be downloaded ({reason}); name a folder of pictures with --data") from error
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for category in stored.classes:
        (partial / category).mkdir(parents=True)
    with display.reading(f"CIFAR-10 {folder.name}", len(stored)) as step:
        for number, (picture, target) in enumerate(stored):
            picture.save(partial / stored.classes[target] / f"{number:05d}.png")
            step(number + 1)
    partial.replace(folder)

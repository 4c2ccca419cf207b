"""Known data sets by name: downloaded through torchvision once, then folders of images like any other."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagmill.cli.progress import Display
from tagmill.errors import ConfigurationError, InputError
from training.annotations.types import Folders

#: the mask values of VOC from 0 on (host.robots.ox.ac.uk/pascal/VOC/voc2012/segexamples); 255 is ignored
VOC_LABELS = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

#: writes what torchvision stored into a folder, and says how many are done
Write = Callable[[Any, Path], Iterator[int]]


@dataclass(frozen=True)
class Download:
    """A data set of torchvision, and how it becomes a folder."""

    #: its class in torchvision.datasets
    kind: str
    write: Write
    #: what the class is called with for the images to train on, and for those to test on
    train: dict[str, Any]
    test: dict[str, Any]


def resolved(folders: Folders) -> Folders:
    """Put the folders of downloaded data sets in the place of their names; without --test theirs is taken.

    A folder of that name in the working directory wins. Raises InputError where one cannot be downloaded.
    """
    data = [(source, known(source)) for source in folders.data]
    tests = for_testing(folders.test or [source for source, name in data if name])
    return replace(folders, data=tuple(downloaded(name)[0] if name else source for source, name in data), test=tests)


def for_testing(sources: Sequence[Path]) -> tuple[Path, ...]:
    """Put the folders of downloaded test images in the place of their names."""
    return tuple(downloaded(name)[1] if (name := known(source)) else source for source in sources)


def known(source: Path) -> str | None:
    """Return the name of a data set, where a --data value is one and no file or folder of that name is there."""
    return str(source) if str(source) in DOWNLOADS and not source.exists() else None


def downloaded(name: str, root: Path | None = None, display: Display | None = None) -> tuple[Path, Path]:
    """Return the folders of the images to train on and of those to test on, as lossless copies.

    As folders they serve training, the proof of an export and `tagmill evaluate` alike. Raises InputError where they
    cannot be downloaded.
    """
    root = root or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagmill" / name
    download = DOWNLOADS[name]
    folders = root / "train", root / "test"
    for folder, options in zip(folders, (download.train, download.test), strict=True):
        if not folder.is_dir():
            _unpack(_stored(name, download.kind, root / "download", options), folder, name, display or Display())
    return folders


def _stored(name: str, kind: str, root: Path, options: dict[str, Any]) -> Any:
    """Return the torchvision data set, downloaded where its files do not lie there yet."""
    try:
        import torchvision
    except ImportError as error:
        raise ConfigurationError(f"{name} is downloaded by torchvision: pip install 'tagmill[train]'") from error
    dataset = getattr(torchvision.datasets, kind)
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            return dataset(root, download=False, **options)
        except RuntimeError:  # torchvision: not found or corrupted
            return dataset(root, download=True, **options)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name} cannot be downloaded ({reason}); put torchvision's files into {root}, or name a folder of "
            "images with --data"
        ) from error


def _unpack(stored: Any, folder: Path, name: str, display: Display) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with display.reading(f"{name} {folder.name}", len(stored)) as step:
        for done in DOWNLOADS[name].write(stored, partial):
            step(done)
    partial.replace(folder)


def write_categories(stored: Any, folder: Path) -> Iterator[int]:
    """Write a PNG an image into a folder a category; give how many are done."""
    # MNIST calls its categories "0 - zero", and Fashion-MNIST has a "T-shirt/top"
    names = [str(category).partition(" - ")[0].replace("/", " or ") for category in stored.classes]
    for category in names:
        (folder / category).mkdir(parents=True)
    for number, (picture, target) in enumerate(stored):
        picture.save(folder / names[target] / f"{number:05d}.png")
        yield number + 1


def write_voc(stored: Any, folder: Path) -> Iterator[int]:
    """Copy images and masks as they are, and write labels.json; give how many are done."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(VOC_LABELS, indent=0), encoding="utf-8")
    for number, (picture, mask) in enumerate(zip(stored.images, stored.masks, strict=True)):
        shutil.copyfile(picture, folder / "images" / Path(picture).name)
        shutil.copyfile(mask, folder / "masks" / Path(mask).name)
        yield number + 1


_TRAIN_FLAG = {"train": True}, {"train": False}
#: by the name that --data and --test call it
DOWNLOADS = {
    "mnist": Download("MNIST", write_categories, *_TRAIN_FLAG),
    "fashion-mnist": Download("FashionMNIST", write_categories, *_TRAIN_FLAG),
    "cifar10": Download("CIFAR10", write_categories, *_TRAIN_FLAG),
    "voc": Download("VOCSegmentation", write_voc, {"image_set": "train"}, {"image_set": "val"}),
}

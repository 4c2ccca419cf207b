"""Data sets that are known by name. torchvision downloads them once; then they are folders of images like any other."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagmill.cli.terminal.progress import Display
from tagmill.errors import ConfigurationError, InputError
from tagmill.files import atomic_write, user_cache
from training.annotations.folders import Folders

#: the labels of VOC's mask values, from 0 on (host.robots.ox.ac.uk/pascal/VOC/voc2012/segexamples); 255 is ignored
VOC_LABELS = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

#: writes a torchvision data set into a folder, and yields the number of images that are done
Write = Callable[[Any, Path], Iterator[int]]


@dataclass(frozen=True)
class Dataset:
    """A data set of torchvision, and the function that writes it into a folder."""

    #: name of its class in torchvision.datasets
    class_name: str
    write: Write
    #: arguments of that class for the training images and for the test images
    train: dict[str, Any]
    test: dict[str, Any]


def resolve_folders(folders: Folders) -> Folders:
    """Replace names of data sets by the folders of their images. Without --test, use their test images.

    A folder of that name in the working directory comes first. Raise InputError if a data set cannot be downloaded.
    """
    data = [(source, dataset_name(source)) for source in folders.data]
    tests = resolve_test_folders(folders.test or [source for source, name in data if name])
    return replace(folders, data=tuple(download(name)[0] if name else source for source, name in data), test=tests)


def resolve_test_folders(sources: Sequence[Path]) -> tuple[Path, ...]:
    """Replace names of data sets by the folders of their test images."""
    return tuple(download(name)[1] if (name := dataset_name(source)) else source for source in sources)


def dataset_name(source: Path) -> str | None:
    """Return the name of the data set that a --data value names; None if a file or folder of that name exists."""
    return str(source) if str(source) in DATASETS and not source.exists() else None


def download(name: str, root: Path | None = None, display: Display | None = None) -> tuple[Path, Path]:
    """Return the folders of the training images and of the test images, written once as lossless copies.

    Because they are folders, training, the proof of an export and `tagmill evaluate` all read them. Raise InputError
    if the data set cannot be downloaded.
    """
    root = root or user_cache() / name
    dataset = DATASETS[name]
    folders = root / "train", root / "test"
    for folder, options in zip(folders, (dataset.train, dataset.test), strict=True):
        if not folder.is_dir():
            _write_folder(
                _open_dataset(name, dataset.class_name, root / "download", options), folder, name, display or Display()
            )
    return folders


def _open_dataset(name: str, class_name: str, root: Path, options: dict[str, Any]) -> Any:
    """Return the torchvision data set; download its files if they are not in `root` yet."""
    try:
        import torchvision
    except ImportError as error:
        raise ConfigurationError(f"{name} is downloaded by torchvision: pip install 'tagmill[train]'") from error
    dataset = getattr(torchvision.datasets, class_name)
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


def _write_folder(stored: Any, folder: Path, name: str, display: Display) -> None:
    """Write a data set into a folder that appears only when it is complete."""
    try:
        with atomic_write(folder) as temporary, display.reading(f"{name} {folder.name}", len(stored)) as step:
            for done in DATASETS[name].write(stored, temporary):
                step(done)
    except OSError:
        if not folder.is_dir():  # else another process has completed it meanwhile
            raise


def write_categories(stored: Any, folder: Path) -> Iterator[int]:
    """Write one PNG per image into one folder per category; yield the number of images that are done."""
    # A category of MNIST is "0 - zero", and one of Fashion-MNIST "T-shirt/top".
    names = [str(category).partition(" - ")[0].replace("/", " or ") for category in stored.classes]
    for category in names:
        (folder / category).mkdir(parents=True)
    for number, (image, target) in enumerate(stored):
        image.save(folder / names[target] / f"{number:05d}.png")
        yield number + 1


def write_voc(stored: Any, folder: Path) -> Iterator[int]:
    """Copy images and masks unchanged, and write labels.json; yield the number of images that are done."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(VOC_LABELS, indent=0), encoding="utf-8")
    for number, (image, mask) in enumerate(zip(stored.images, stored.masks, strict=True)):
        shutil.copyfile(image, folder / "images" / Path(image).name)
        shutil.copyfile(mask, folder / "masks" / Path(mask).name)
        yield number + 1


_TRAIN_FLAG = {"train": True}, {"train": False}
#: data sets by the name that --data and --test take
DATASETS = {
    "mnist": Dataset("MNIST", write_categories, *_TRAIN_FLAG),
    "fashion-mnist": Dataset("FashionMNIST", write_categories, *_TRAIN_FLAG),
    "cifar10": Dataset("CIFAR10", write_categories, *_TRAIN_FLAG),
    "voc": Dataset("VOCSegmentation", write_voc, {"image_set": "train"}, {"image_set": "val"}),
}

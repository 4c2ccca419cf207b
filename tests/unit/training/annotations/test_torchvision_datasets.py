"""Data sets by name: torchvision's files become folders once, without a network if the files are there."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.metrics import IGNORE
from training.annotations.folders import Folders
from training.annotations.open import read_labeled_images, read_masked_images
from training.annotations.torchvision_datasets import (
    DATASETS,
    VOC_LABELS,
    download,
    resolve_folders,
    resolve_test_folders,
    write_categories,
)
from training.data.decode import read_mask


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write uint8 values in MNIST's own format (yann.lecun.com/exdb/mnist)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def write_mnist(root: Path, kind: str = "MNIST") -> Path:
    """Write a data set of five training and two test images to the place where torchvision looks for it."""
    for name, targets in (("train", [0, 9, 4, 4, 1]), ("t10k", [7, 0])):
        images = np.arange(len(targets) * 28 * 28).reshape(-1, 28, 28) % 251
        raw = root / "download" / kind / "raw"
        write_idx(raw / f"{name}-images-idx3-ubyte", images.astype(np.uint8))
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.array(targets, dtype=np.uint8))
    return root


def write_voc(root: Path) -> Path:
    """Write a training and a validation image to the place where torchvision looks for VOC 2012."""
    folder = root / "download" / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for name in ("train", "val"):
        (folder / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(f"{name}_1\n")
        Image.new("RGB", (20, 10), "teal").save(folder / "JPEGImages" / f"{name}_1.jpg")
        mask = Image.fromarray(np.repeat([[0] * 8 + [20] * 8 + [255] * 4], 10, axis=0).astype(np.uint8))
        mask.putpalette([value for gray in range(256) for value in (gray, 0, 0)])
        mask.save(folder / "SegmentationClass" / f"{name}_1.png")
    return root


def fail_halfway(stored: object, folder: Path) -> Iterator[int]:
    """Write one image of a data set, then find the disk full."""
    writing = write_categories(stored, folder)
    yield next(writing)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_mnist_becomes_folders_of_digits_once_and_without_a_network(tmp_path: Path) -> None:
    train, test = download("mnist", write_mnist(tmp_path))
    found = read_labeled_images(train)
    assert {labeled.labels for labeled in found.images} == {("0",), ("9",), ("4",), ("1",)}
    assert found.empty == ("2", "3", "5", "6", "7", "8")
    with Image.open(train / "9" / "00001.png") as image:
        assert np.array_equal(np.asarray(image), (np.arange(784).reshape(28, 28) + 784) % 251)
    assert [path.name for path in sorted(test.rglob("*.png"))] == ["00001.png", "00000.png"]
    (tmp_path / "download" / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    assert download("mnist", tmp_path) == (train, test)


def test_a_category_with_a_slash_becomes_one_folder(tmp_path: Path) -> None:
    train, _ = download("fashion-mnist", write_mnist(tmp_path, "FashionMNIST"))
    assert "T-shirt or top" in [path.name for path in train.iterdir()]
    assert (train / "Ankle boot" / "00001.png").is_file()


def test_voc_becomes_images_and_masks_with_its_border_ignored(tmp_path: Path) -> None:
    train, test = download("voc", write_voc(tmp_path))
    found = read_masked_images(train)
    assert found.labels == VOC_LABELS
    assert len(VOC_LABELS) == 21
    mask = read_mask(found.examples[0].target, PreprocessSpec(10, 20), found.table(VOC_LABELS), (20, 10))  # type: ignore[arg-type]
    assert np.unique(mask).tolist() == [0, VOC_LABELS.index("tvmonitor"), IGNORE]
    original = tmp_path / "download" / "VOCdevkit" / "VOC2012" / "JPEGImages" / "val_1.jpg"
    assert (test / "images" / "val_1.jpg").read_bytes() == original.read_bytes()


class FakeCifar10:
    """A stand-in for the data set of torchvision: four images of two categories."""

    classes = ("cat", "dog")

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        if not download:
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")

    def __len__(self) -> int:
        return 4

    def __iter__(self):  # type: ignore[no-untyped-def]  # stands in for an untyped class
        for number in range(4):
            yield Image.new("RGB", (32, 32), (number * 60, 0, 90)), number % 2


def test_cifar10_is_downloaded_if_its_files_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCifar10)
    train, test = download("cifar10", tmp_path)
    assert sorted(path.name for path in train.rglob("*.png")) == [f"{n:05d}.png" for n in range(4)]
    with Image.open(test / "dog" / "00001.png") as image:
        assert image.getpixel((0, 0)) == (60, 0, 90)


def test_a_half_written_folder_is_removed_and_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    with monkeypatch.context() as patched:
        patched.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], write=fail_halfway))
        with pytest.raises(OSError, match="No space left"):
            download("mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["download"]
    (tmp_path / ".tagmill-0123456789abcdef.partial" / "0").mkdir(parents=True)  # what SIGKILL leaves
    train, _ = download("mnist", tmp_path)
    assert [path.name for path in (train / "0").iterdir()] == ["00000.png"]


def test_a_folder_that_another_process_has_completed_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(stored: object, folder: Path) -> Iterator[int]:
        (tmp_path / "train" / "0").mkdir(parents=True)
        (tmp_path / "train" / "0" / "first.png").write_bytes(b"")
        yield from write_categories(stored, folder)

    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], write=slower))
    write_mnist(tmp_path)
    (tmp_path / "test").mkdir()
    train, _ = download("mnist", tmp_path)
    assert [path.name for path in train.rglob("*.png")] == ["first.png"]
    assert not list(tmp_path.glob(".*"))


def test_the_error_of_a_failed_download_names_the_alternatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("<urlopen error no network>")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(InputError, match=r"cifar10 cannot be downloaded .*no network.*download, or name .*--data"):
        download("cifar10", tmp_path)


def test_a_name_is_replaced_by_its_folders_and_adds_its_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = write_mnist(tmp_path / "tagmill" / "mnist")
    mnist, other = Path("mnist"), tmp_path / "other"
    assert resolve_folders(Folders((mnist, other))) == Folders((root / "train", other), (), (root / "test",))
    assert resolve_folders(Folders((other,), (), (other, mnist))).test == (other, root / "test")
    assert resolve_folders(Folders((mnist,), (), (other,))) == Folders((root / "train",), (), (other,))
    assert resolve_test_folders([mnist, other]) == (root / "test", other)


def test_a_folder_with_the_name_of_a_data_set_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    folders = Folders((Path("mnist"),), (), (Path("mnist"),))
    assert resolve_folders(folders) == folders


def test_voc_has_its_labels_in_json(tmp_path: Path) -> None:
    train, _ = download("voc", write_voc(tmp_path))
    assert json.loads((train / "labels.json").read_text())[15] == "person"


def test_a_downloaded_folder_is_found_without_importing_torch(tmp_path: Path) -> None:
    download("mnist", write_mnist(tmp_path))
    script = (
        "import sys; from pathlib import Path; from training.annotations.torchvision_datasets import download; "
        "download('mnist', Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 0

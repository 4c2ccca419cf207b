"""Data sets by name: torchvision's files become folders once, without network where the files are there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.figures import IGNORE
from training.annotations.open import read_masked_source, read_tagged
from training.annotations.torchvision_datasets import VOC_LABELS, downloaded, for_testing, resolved
from training.annotations.types import Folders
from training.data.decode import read_mask


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write uint8 values in MNIST's own format (yann.lecun.com/exdb/mnist)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def write_mnist(root: Path, kind: str = "MNIST") -> Path:
    """Write a data set of five images to train on and two to test on where torchvision looks for it."""
    for name, targets in (("train", [0, 9, 4, 4, 1]), ("t10k", [7, 0])):
        pictures = np.arange(len(targets) * 28 * 28).reshape(-1, 28, 28) % 251
        raw = root / "download" / kind / "raw"
        write_idx(raw / f"{name}-images-idx3-ubyte", pictures.astype(np.uint8))
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.array(targets, dtype=np.uint8))
    return root


def write_voc(root: Path) -> Path:
    """Write an image to train on and one to validate on where torchvision looks for VOC 2012."""
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


def test_mnist_becomes_folders_of_digits_without_network_once(tmp_path: Path) -> None:
    train, test = downloaded("mnist", write_mnist(tmp_path))
    found = read_tagged(train)
    assert {tagged.labels for tagged in found.pictures} == {("0",), ("9",), ("4",), ("1",)}
    assert found.empty == ("2", "3", "5", "6", "7", "8")
    with Image.open(train / "9" / "00001.png") as picture:
        assert np.array_equal(np.asarray(picture), (np.arange(784).reshape(28, 28) + 784) % 251)
    assert [path.name for path in sorted(test.rglob("*.png"))] == ["00001.png", "00000.png"]
    (tmp_path / "download" / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    assert downloaded("mnist", tmp_path) == (train, test)


def test_a_category_with_a_slash_becomes_one_folder(tmp_path: Path) -> None:
    train, _ = downloaded("fashion-mnist", write_mnist(tmp_path, "FashionMNIST"))
    assert "T-shirt or top" in [path.name for path in train.iterdir()]
    assert (train / "Ankle boot" / "00001.png").is_file()


def test_voc_becomes_images_and_masks_with_its_border_ignored(tmp_path: Path) -> None:
    train, test = downloaded("voc", write_voc(tmp_path))
    found = read_masked_source(train)
    assert found.labels == VOC_LABELS
    assert len(VOC_LABELS) == 21
    mask = read_mask(found.examples[0].target, PreprocessSpec(10, 20), found.table(VOC_LABELS), (20, 10))  # type: ignore[arg-type]
    assert np.unique(mask).tolist() == [0, VOC_LABELS.index("tvmonitor"), IGNORE]
    original = tmp_path / "download" / "VOCdevkit" / "VOC2012" / "JPEGImages" / "val_1.jpg"
    assert (test / "images" / "val_1.jpg").read_bytes() == original.read_bytes()


class FakeCifar10:
    """Four images of two categories in the shape of torchvision's data set."""

    classes = ("cat", "dog")

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        if not download:
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")

    def __len__(self) -> int:
        return 4

    def __iter__(self):  # type: ignore[no-untyped-def]  # stands in for an untyped class
        for number in range(4):
            yield Image.new("RGB", (32, 32), (number * 60, 0, 90)), number % 2


def test_cifar10_is_downloaded_where_its_files_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCifar10)
    train, test = downloaded("cifar10", tmp_path)
    assert sorted(path.name for path in train.rglob("*.png")) == [f"{n:05d}.png" for n in range(4)]
    with Image.open(test / "dog" / "00001.png") as picture:
        assert picture.getpixel((0, 0)) == (60, 0, 90)


def test_a_half_written_folder_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / ".train.partial" / "0").mkdir(parents=True)
    (tmp_path / ".train.partial" / "0" / "00077.png").write_bytes(b"")
    train, _ = downloaded("mnist", write_mnist(tmp_path))
    assert [path.name for path in (train / "0").iterdir()] == ["00000.png"]


def test_a_data_set_that_cannot_be_downloaded_says_what_else_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("<urlopen error no network>")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(InputError, match=r"cifar10 cannot be downloaded .*no network.*download, or name .*--data"):
        downloaded("cifar10", tmp_path)


def test_a_name_stands_for_its_folders_and_brings_its_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = write_mnist(tmp_path / "tagmill" / "mnist")
    mnist, other = Path("mnist"), tmp_path / "other"
    assert resolved(Folders((mnist, other))) == Folders((root / "train", other), (), (root / "test",))
    assert resolved(Folders((other,), (), (other, mnist))).test == (other, root / "test")
    assert resolved(Folders((mnist,), (), (other,))) == Folders((root / "train",), (), (other,))
    assert for_testing([mnist, other]) == (root / "test", other)


def test_a_folder_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    folders = Folders((Path("mnist"),), (), (Path("mnist"),))
    assert resolved(folders) == folders


def test_voc_names_its_labels_in_json(tmp_path: Path) -> None:
    train, _ = downloaded("voc", write_voc(tmp_path))
    assert json.loads((train / "labels.json").read_text())[15] == "person"


def test_a_folder_that_was_downloaded_is_found_without_torch(tmp_path: Path) -> None:
    downloaded("mnist", write_mnist(tmp_path))
    words = (
        "import sys; from pathlib import Path; from training.annotations.torchvision_datasets import downloaded; "
        "downloaded('mnist', Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", words, str(tmp_path)], check=False).returncode == 0

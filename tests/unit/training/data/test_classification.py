"""Read labeled and masked images into arrays: labels, splits, copies between the splits, and refused data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import write_image

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError, NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.text import require_legible
from training.annotations.folders import Folders
from training.annotations.types import Use
from training.data.arrays import Arrays, LabeledSet
from training.data.classification import read_labeled
from training.data.segmentation import read_masked
from training.data.split import label_groups

SPEC = PreprocessSpec(16, 16)


class RecordingDisplay(Display):
    """Keeps the lines that would be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def write_colors(folder: Path, each: int = 6, colors: tuple[str, ...] = ("red", "blue"), first: int = 0) -> Path:
    """Write distinct images; another `first` gives different ones."""
    for color in colors:
        for number in range(first, first + each):
            write_image(folder / color / f"{number}.png", color, shade=number)
    return folder


def read(
    *data: Path, test: Path | None = None, held: Path | None = None, **options: bool
) -> tuple[LabeledSet, list[str]]:
    """Return what is read, and the lines that are shown."""
    display = RecordingDisplay()
    folders = Folders(data, (held,) if held else (), (test,) if test else ())
    return read_labeled(folders, SPEC, 0, display, **options), display.lines


def test_a_tenth_of_every_category_is_held_out(tmp_path: Path) -> None:
    found, lines = read(write_colors(tmp_path, each=20))
    assert found.labels == ("blue", "red")
    assert np.bincount(found.train.targets).tolist() == [18, 18]
    assert np.bincount(found.validation.targets).tolist() == [2, 2]
    assert found.train.pixels.shape == (36, 16, 16, 3)
    assert (found.test, found.duplicates, lines) == (None, (), [])


def test_the_same_seed_holds_out_the_same_images(tmp_path: Path) -> None:
    folders = Folders((write_colors(tmp_path, each=30),))
    first, same, other = (
        [example.image for example in read_labeled(folders, SPEC, seed, RecordingDisplay()).validation.examples]
        for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_images_with_several_labels_become_rows_of_zeros_and_ones(tmp_path: Path) -> None:
    for number in range(6):
        write_image(tmp_path / f"{number}.png", "red", shade=number)
    rows = ["0.png,hat|red", "1.png,red", "2.png,", "3.png,hat", "4.png,red", "5.png,red"]
    (tmp_path / "t.csv").write_text("\n".join(["uri,labels", *rows]))
    held = write_image(tmp_path / "6.png", "blue")
    (tmp_path / "held.csv").write_text(f"uri,labels\n{held},hat|red\n")
    found, _ = read(tmp_path / "t.csv", held=tmp_path / "held.csv", multilabel=True)
    assert found.labels == ("hat", "red")
    assert found.train.targets.dtype == np.uint8
    assert found.train.targets.tolist() == [[1, 1], [0, 1], [0, 0], [1, 0], [0, 1], [0, 1]]
    assert found.validation.targets.tolist() == [[1, 1]]


def test_a_copy_of_a_test_image_is_not_trained_on(tmp_path: Path) -> None:
    data, test = write_colors(tmp_path / "data"), write_colors(tmp_path / "test", each=2, first=50)
    copy = data / "red" / "copy.png"
    copy.write_bytes((test / "red" / "50.png").read_bytes())
    found, lines = read(data, test=test)
    assert len(found.train) + len(found.validation) == 12
    assert copy not in [example.image for example in (*found.train.examples, *found.validation.examples)]
    assert found.test is not None
    assert len(found.test) == 4
    (duplicate,) = found.duplicates
    assert (duplicate.image, duplicate.use) == (copy, Use.TRAIN)
    assert (duplicate.copy, duplicate.copy_use) == (test / "red" / "50.png", Use.TEST)
    assert lines == [f"not trained on: {copy} has the bytes of the test image {test / 'red' / '50.png'}"]


def test_a_copy_in_another_category_is_a_copy(tmp_path: Path) -> None:
    data, held = write_colors(tmp_path / "data"), write_colors(tmp_path / "held", each=2, first=50)
    (data / "blue" / "copy.png").write_bytes((held / "red" / "51.png").read_bytes())
    found, _ = read(data, held=held)
    assert (len(found.train), len(found.duplicates)) == (12, 1)
    assert found.duplicates[0].copy_use is Use.VALIDATION


def test_copies_among_the_data_are_not_on_both_sides_of_the_split(tmp_path: Path) -> None:
    data = write_colors(tmp_path, each=10)
    for color in ("red", "blue"):
        for path in list((data / color).iterdir()):
            path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    found, _ = read(data)
    assert not {*found.train.digests} & {*found.validation.digests}
    assert len(found.train) + len(found.validation) + len(found.duplicates) == 40
    assert found.duplicates


def test_a_held_out_copy_of_a_test_image_is_reported_and_kept(tmp_path: Path) -> None:
    held, test = write_colors(tmp_path / "held", first=20), write_colors(tmp_path / "test", first=25)
    found, lines = read(write_colors(tmp_path / "data"), held=held, test=test)
    assert len(found.validation) == 12
    assert [duplicate.use for duplicate in found.duplicates] == [Use.VALIDATION] * 2
    assert lines[0].startswith("held out all the same: ")


def test_of_many_copies_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    data, test = write_colors(tmp_path / "data", each=9), write_colors(tmp_path / "test", each=4)
    found, lines = read(data, test=test)
    assert len(found.duplicates) == 8
    assert lines[3:] == ["not trained on: 5 more copies"]


def test_data_that_is_the_test_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every image to train on is one of --validation or --test, too"):
        read(write_colors(tmp_path), test=tmp_path)


def test_the_error_names_a_category_whose_training_images_are_all_copies(tmp_path: Path) -> None:
    data = write_colors(tmp_path / "data")
    write_colors(data, colors=("green",))
    with pytest.raises(InputError, match="no image of category green is left to train on"):
        read(data, test=write_colors(tmp_path / "test", colors=("green",)))


def test_the_error_names_a_category_without_a_readable_image(tmp_path: Path) -> None:
    data = write_colors(tmp_path)
    (data / "green").mkdir()
    (data / "green" / "one.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match="no image of category green is left to train on"):
        read(data)


def test_unreadable_images_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    data = write_colors(tmp_path)
    (data / "red" / "broken.png").write_bytes(b"damaged")
    found, lines = read(data)
    assert len(found.train) + len(found.validation) == 12
    assert [entry.path.name for entry in found.train.unreadable] == ["broken.png"]
    assert "broken.png" in lines[0]


def test_images_that_are_all_unreadable_are_nothing_to_do(tmp_path: Path) -> None:
    for color in ("red", "blue"):
        (tmp_path / color).mkdir()
        (tmp_path / color / "one.png").write_bytes(b"damaged")
    with pytest.raises(NothingToDo, match="none of 2 images could be read"):
        read(tmp_path)


def test_an_empty_category_is_refused_in_training_and_skipped_in_a_test_set(tmp_path: Path) -> None:
    data, test = write_colors(tmp_path / "data"), write_colors(tmp_path / "test", first=20)
    (test / "green").mkdir()
    assert read(data, test=test)[0].labels == ("blue", "red")
    with pytest.raises(InputError, match="category green holds no image"):
        read(test)


def test_one_category_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds one category, red; a classifier needs at least two"):
        read(write_colors(tmp_path, colors=("red",)))


def test_a_table_without_any_label_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", "red")
    (tmp_path / "t.csv").write_text("uri,labels\na.png,\n")
    with pytest.raises(InputError, match="holds no label; a classifier needs at least two"):
        read(tmp_path / "t.csv", multilabel=True)


def test_the_error_of_a_label_unknown_to_training_names_the_line(tmp_path: Path) -> None:
    data, test = write_colors(tmp_path / "data"), write_colors(tmp_path / "test", first=20)
    (test / "t.csv").write_text("uri,label\nred/20.png,red\nblue/20.png,azure\n")
    with pytest.raises(InputError, match=r"t\.csv:3: category azure is not one of the training images': blue, red"):
        read(data, test=test / "t.csv")


def test_two_images_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few readable images"):
        read(write_colors(tmp_path, each=1))


@pytest.mark.parametrize(
    ("name", "shown"), [(b"caf\xe9", r"caf\udce9"), (b"a\x1b[31mb", r"a\x1b[31mb"), (b"a\nb\x07", r"a\nb\x07")]
)
def test_a_category_with_an_unprintable_name_is_refused_before_training(
    tmp_path: Path, name: bytes, shown: str
) -> None:
    write_colors(tmp_path, colors=("red", "blue"))
    (tmp_path / "red").rename(tmp_path / os.fsdecode(name))
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: category {shown} has a control character or bytes that are not")


def test_a_mask_label_with_an_unprintable_name_is_refused(tmp_path: Path) -> None:
    data = write_halves(tmp_path, 6, labels=("background", "da\ud800rk"))
    with pytest.raises(InputError, match=r"category da\\ud800rk has a control character"):
        read_masked(Folders((data,)), SPEC, 0, RecordingDisplay())


def test_letters_of_any_script_and_joined_emoji_are_allowed_in_names(tmp_path: Path) -> None:
    require_legible(("日本語", "👩‍🚀", "été", "a b", "قبعة"), tmp_path)


@pytest.mark.parametrize("labels", ["red", "red|blue"])
def test_images_that_all_have_the_same_labels_are_refused(tmp_path: Path, labels: str) -> None:
    write_colors(tmp_path, each=6)
    rows = [f"{path.relative_to(tmp_path)},{labels}" for path in sorted(tmp_path.rglob("*.png"))]
    (tmp_path / "t.csv").write_text("\n".join(["uri,labels", *rows]))
    with pytest.raises(InputError, match=r"t\.csv: all images to train on have the same labels, .*red, so there is"):
        read(tmp_path / "t.csv", multilabel=True)


def test_images_with_several_labels_are_stratified_by_the_rarest() -> None:
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]] * 2, dtype=np.uint8)
    targets[4:, 1] = 0
    arrays = Arrays(np.zeros((8, 1, 1, 3), np.uint8), targets, np.repeat([0, 1], 4), [], [])
    # label 0 is in four images, labels 1 and 2 in two each; 3 means none
    assert label_groups(arrays, 3).tolist() == [1, 0, 1, 3, 4, 4, 6, 7]


def test_notes_of_a_source_are_shown(tmp_path: Path) -> None:
    data = write_colors(tmp_path)
    rows = [f"{color}/{number}.png,tagged,{color}" for color in ("red", "blue") for number in range(6)]
    (data / "r.csv").write_text("\n".join(["uri,status,m.label", *rows, "x.png,failed,"]))
    assert read(data / "r.csv")[1] == [f"{data / 'r.csv'}: 1 images that were not tagged are left out"]


def write_halves(folder: Path, count: int, first: int = 0, labels: tuple[str, ...] = ("background", "dark")) -> Path:
    """Write distinct images whose left half is dark, with their masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.repeat([[1] * 8 + [0] * 8], 16, axis=0).astype(np.uint8)
    for number in range(first, first + count):
        Image.fromarray(200 - 150 * mask + number).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def test_masks_are_read_with_the_labels_of_the_first_folder(tmp_path: Path) -> None:
    first, second = write_halves(tmp_path / "one", 6), write_halves(tmp_path / "two", 6, 10, ("dark", "background"))
    found = read_masked(Folders((first, second)), SPEC, 0, RecordingDisplay())
    assert found.labels == ("background", "dark")
    left = found.train.targets[:, :, :8].mean(axis=(1, 2))
    assert np.array_equal(left, 1 - found.train.sources)
    assert (len(found.train), len(found.validation)) == (10, 2)
    assert sorted(found.validation.sources) == [0, 1]


def test_a_copy_of_a_masked_test_image_is_not_trained_on(tmp_path: Path) -> None:
    data, test = write_halves(tmp_path / "data", 6), write_halves(tmp_path / "test", 2, 5)
    display = RecordingDisplay()
    found = read_masked(Folders((data,), (), (test,)), SPEC, 0, display)
    assert len(found.train) + len(found.validation) == 5
    assert [duplicate.image.name for duplicate in found.duplicates] == ["5.png"]
    assert len(display.lines) == 1


def test_a_masked_folder_of_other_labels_is_refused(tmp_path: Path) -> None:
    data, test = write_halves(tmp_path / "data", 6), write_halves(tmp_path / "test", 2, 9, ("background", "hat"))
    with pytest.raises(InputError, match="label 'hat' is not one of the model's: background, dark"):
        read_masked(Folders((data,), (), (test,)), SPEC, 0, RecordingDisplay())


def test_one_masked_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few readable images; a training needs at least four"):
        read_masked(Folders((write_halves(tmp_path, 1),)), SPEC, 0, RecordingDisplay())


def test_masks_of_a_single_label_are_refused(tmp_path: Path) -> None:
    data = write_halves(tmp_path, 6)
    for path in (data / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)  # 0 and 255 instead of 0 and 1
    message = "have pixels of no label but background, so there is nothing to learn; .* not 0 and 255"
    with pytest.raises(InputError, match=message):
        read_masked(Folders((data,)), SPEC, 0, RecordingDisplay())


def test_a_coco_file_without_annotations_has_nothing_to_learn(tmp_path: Path) -> None:
    names = [path.name for path in sorted((write_halves(tmp_path, 6) / "images").iterdir())]
    images = [{"id": number, "file_name": name, "width": 16, "height": 16} for number, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "hat"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"coco\.json: .* no label but background, so there is nothing to learn"):
        read_masked(Folders((tmp_path / "coco.json",)), SPEC, 0, RecordingDisplay())


def test_caveats_of_the_masks_are_shown(tmp_path: Path) -> None:
    data, display = write_halves(tmp_path, 6, labels=("background", "dark", "hat", "bag")), RecordingDisplay()
    for path in (data / "masks").iterdir():
        mask = np.array(Image.open(path))
        mask[:4] = 7
        Image.fromarray(mask).save(path)
    read_masked(Folders((data,)), SPEC, 0, display)
    assert display.lines == [
        "No training mask has a pixel of hat, bag: the model cannot predict that.",
        "25.0% of the training pixels were ignored: their value is 255, or a number without a label.",
    ]


def test_reading_imports_no_torch() -> None:
    script = (
        "import sys, training.data.read, training.annotations.torchvision_datasets; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

"""A wrong entry of an annotation file is left out, named and counted; the others are read."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.image_fixtures import write_image

from tagmill.errors import InputError
from training.annotations.open import read_labeled_images, read_masked_images
from training.data.classification import known_examples


class Lines:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def task(number: int, image: str, *choices: str, **more: Any) -> dict[str, Any]:
    """Return a task of Label Studio with one annotation."""
    result = [{"type": "choices", "value": {"choices": list(choices)}}]
    return {"id": number, "data": {"image": image}, "annotations": [{"result": result}]} | more


def write_tasks(folder: Path, *tasks: Any) -> Path:
    """Write an export beside the images a.png and b.png."""
    for number, name in enumerate(("a.png", "b.png")):
        write_image(folder / name, "red", shade=number)
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return path


GOOD = task(1, "a.png", "hat")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (None, "task 1: has no annotations, or it is not a list"),
        ("x", "task 1: has no annotations, or it is not a list"),
        ({"id": 7}, "task 7: has no annotations, or it is not a list"),
        (task(7, "b.png", annotations=None), "task 7: has no annotations, or it is not a list"),
        (task(7, "b.png", annotations=[3]), "task 7: an annotation is not an object"),
        (task(7, "b.png", annotations=[{"result": None}]), "task 7: has no result, or it is not a list"),
        (task(7, "b.png", annotations=[{"result": ["x"]}]), "task 7: a result is not an object"),
        (
            task(7, "b.png", annotations=[{"result": [{"type": "choices"}]}]),
            "task 7: has no value, or it is not an object",
        ),
        (task(7, "b.png", "hat", data=None), "task 7: has no data, or it is not an object"),
        (task(7, "b.png", "hat", data={}), "task 7: its data has no image"),
        (task(7, "b.png", "hat", data={"image": None}), "task 7: its data has no image"),
        (
            task(7, "https://shop/b.png", "hat"),
            "task 7: https://shop/b.png is a URL; download the images and name their files",
        ),
        (task(7, "http://[b.png", "hat"), "task 7: http://[b.png is not a URL: Invalid IPv6 URL"),
        (task(7, "\ud800.png", "hat"), r"task 7: \ud800.png cannot be the name of a file"),
        (task(7, "b.png", 3), "task 7: a choice is not text; this kind of choices is not read"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_task_is_left_out_and_named(tmp_path: Path, wrong: Any, why: str) -> None:
    source = write_tasks(tmp_path, GOOD, wrong)
    found = read_labeled_images(source)
    assert [labeled.image.name for labeled in found.images] == ["a.png"]
    assert found.notes == (f"{source}: 1 tasks are wrong and left out: {why}",)
    with pytest.raises(InputError) as caught:
        read_labeled_images(write_tasks(tmp_path, *([wrong] if isinstance(wrong, dict) else [{"id": 1}])))
    assert str(caught.value).startswith(f"{source}: task ")


def test_many_wrong_tasks_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    source = write_tasks(tmp_path, GOOD, *({"id": number} for number in range(2, 9)))
    (note,) = read_labeled_images(source).notes
    assert note.startswith(f"{source}: 7 tasks are wrong and left out: task 2: ")
    assert note.endswith("; and 4 more")


@pytest.mark.parametrize("multilabel", [False, True])
def test_an_empty_result_is_no_label(tmp_path: Path, multilabel: bool) -> None:
    source = write_tasks(tmp_path, GOOD, task(2, "b.png", annotations=[{"result": []}]))
    display = Lines()
    found = known_examples([source], ("hat",), multilabel, "a label", display)  # type: ignore[arg-type]
    if multilabel:
        assert [example.target for example in found] == [("hat",), ()]
    else:
        assert [example.target for example in found] == ["hat"]
        assert display.lines == [f"{source}: 1 images without a label are left out: b.png"]


NAME = "\uc0ac\uc9c4 1+2.png"


@pytest.mark.parametrize("on_disk", [NAME, quote(NAME)])
@pytest.mark.parametrize(
    "written",
    [
        f"/data/upload/1/0a1b2c3d-{quote(NAME)}",
        f"http://localhost:8080/data/upload/0a1b2c3d-{NAME}",
        f"/data/local-files/?d=images/{quote(NAME)}",
        f"/data/local-files/?x=1&d={NAME}",
        f"images/{quote(NAME)}",
        f"images/{NAME}",
    ],
)
def test_a_percent_encoded_name_is_found(tmp_path: Path, on_disk: str, written: str) -> None:
    write_image(tmp_path / "images" / on_disk, "blue")
    (found,) = read_labeled_images(write_tasks(tmp_path, task(1, written, "hat"))).images
    assert found.image.samefile(tmp_path / "images" / on_disk)


@pytest.mark.parametrize("on_disk", [f"0a1b2c3d-{NAME}", f"0a1b2c3d-{quote(NAME)}"])
def test_an_uploaded_file_may_keep_its_prefix(tmp_path: Path, on_disk: str) -> None:
    write_image(tmp_path / on_disk, "blue")
    source = write_tasks(tmp_path, task(1, f"/data/upload/1/0a1b2c3d-{quote(NAME)}", "hat"))
    assert read_labeled_images(source).images[0].image.samefile(tmp_path / on_disk)


def test_the_uploaded_file_is_found_by_the_name_in_its_task(tmp_path: Path) -> None:
    source = write_tasks(tmp_path, task(1, "/data/other/x", "hat", file_upload="0a1b2c3d-b.png"))
    assert read_labeled_images(source).images[0].image == tmp_path / "b.png"


# COCO


SHAPE = {"segmentation": [[1, 1, 9, 1, 9, 9]]}


def write_coco(folder: Path, **wrong: Any) -> Path:
    """Write a COCO file of a.png and b.png, with one good annotation each and wrong entries behind them."""
    content: dict[str, list[Any]] = {
        "images": [{"id": n, "file_name": f"{name}.png", "width": 60, "height": 40} for n, name in enumerate("ab")],
        "categories": [{"id": 1, "name": "hat"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1} | SHAPE for n in (0, 1)],
    }
    path = write_tasks(folder).with_name("coco.json")
    path.write_text(json.dumps({key: entries + wrong.get(key, []) for key, entries in content.items()}))
    return path


@pytest.mark.parametrize(
    ("wrong", "why", "images"),
    [
        ({"annotations": [None]}, "annotation 2: has no image_id, or it is not a whole number", 2),
        ({"annotations": [{"id": 9, "image_id": 5, "category_id": 1}]}, "annotation 9: there is no image 5", 2),
        ({"annotations": [{"id": 9, "image_id": 1, "category_id": 5}]}, "annotation 9: there is no category 5", 1),
        (
            {"annotations": [{"id": 9, "image_id": 1}]},
            "annotation 9: has no category_id, or it is not a whole number",
            1,
        ),
        ({"images": [None]}, "images[2]: has no id, or it is not a whole number", 2),
        ({"images": [{"id": 5}]}, "image 5: has no file_name, or it is not text", 2),
        (
            {"images": [{"id": 5, "file_name": "s3://b/a"}]},
            "image 5: s3://b/a is a URL; download the images and name their files",
            2,
        ),
        ({"categories": [{"id": 5}]}, "category 5: has no name, or it is not text", 2),
        ({"categories": [{"id": 5, "name": " "}]}, "category 5: its name is empty", 2),
    ],
)
def test_a_wrong_entry_of_coco_is_left_out_and_named(
    tmp_path: Path, wrong: dict[str, Any], why: str, images: int
) -> None:
    source = write_coco(tmp_path, **wrong)
    labeled, masked = read_labeled_images(source), read_masked_images(source)
    assert (len(labeled.images), len(masked.examples)) == (images, images)
    assert labeled.notes == masked.notes == (f"{source}: 1 entries are wrong and left out: {why}",)


def test_an_image_whose_mask_would_be_incomplete_is_left_out(tmp_path: Path) -> None:
    source = write_coco(tmp_path, annotations=[{"id": 9, "image_id": 1, "category_id": 1}])
    found = read_masked_images(source)
    assert [example.image.name for example in found.examples] == ["a.png"]
    (note,) = found.notes
    assert note.startswith(f"{source}: 1 entries are wrong and left out: annotation 9: has no segmentation of polygons")
    assert len(read_labeled_images(source).images) == 2

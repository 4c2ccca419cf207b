"""The formats of --data: folders, CSV, COCO, Label Studio, a corrected run; and the errors for malformed ones."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from support.image_fixtures import write_image

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from producer.output.writers.csv_writer import write_csv
from tagmill.errors import InputError, NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import Model
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.metrics import IGNORE
from training.annotations.mask_folders import translation_table
from training.annotations.open import list_images, read_labeled_images, read_masked_images, to_example
from training.data.decode import read_mask

LABELS = ("background", "square", "stripe")


def write_images(folder: Path, names: Sequence[str] = ("a.png", "b.png", "c.png")) -> Path:
    """Write images of different bytes."""
    for number, name in enumerate(names):
        write_image(folder / name, "red", shade=number)
    return folder


def write_table(path: Path, *lines: str) -> Path:
    """Write a CSV beside three images."""
    write_images(path.parent)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file beside three images."""
    write_images(path.parent)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def labels_of(source: Path) -> dict[str, tuple[str, ...]]:
    """Return the labels of each image by its name."""
    return {labeled.image.name: labeled.labels for labeled in read_labeled_images(source).images}


def test_the_name_of_a_category_folder_is_the_label_of_its_images(tmp_path: Path) -> None:
    write_images(tmp_path, ("hat/a.png", "hat/deep/b.PNG", "shoe/c.png", "shoe/.hidden.png"))
    (tmp_path / "empty").mkdir()
    assert labels_of(tmp_path) == {"a.png": ("hat",), "b.PNG": ("hat",), "c.png": ("shoe",)}
    assert read_labeled_images(tmp_path).empty == ("empty",)


def test_a_table_names_images_beside_it_in_images_or_absolutely(tmp_path: Path) -> None:
    far = write_image(tmp_path / "far" / "away.png", "blue")
    write_image(tmp_path / "data" / "images" / "in.png", "blue")
    table = write_table(tmp_path / "data" / "labels.csv", "uri,label", "a.png,hat", "in.png,shoe", f"{far},hat")
    assert labels_of(table) == {"a.png": ("hat",), "in.png": ("shoe",), "away.png": ("hat",)}
    assert all(path.is_file() for path in list_images(table))


def test_several_labels_are_separated_by_a_bar_or_in_several_rows(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "t.csv", "labels,uri", " hat | red|hat,a.png", '"wide, red",b.png', ",c.png", "new,a.png"
    )
    assert labels_of(table) == {"a.png": ("hat", "red", "new"), "b.png": ("wide, red",), "c.png": ()}


def test_two_paths_of_one_image_in_a_table_have_their_labels_merged(tmp_path: Path) -> None:
    write_images(tmp_path)
    lines = ["uri,labels", "a.png,hat", f"{tmp_path / 'a.png'},red", f"../{tmp_path.name}/a.png,wool"]
    (found,) = read_labeled_images(write_table(tmp_path / "t.csv", *lines)).images
    assert (found.image, found.labels) == (tmp_path / "a.png", ("hat", "red", "wool"))


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv")
    table.write_bytes(b"\xef\xbb\xbfuri,label\r\na.png,h\xc3\xbct\r\n\r\nb.png,shoe\r\n")
    assert labels_of(table) == {"a.png": ("hüt",), "b.png": ("shoe",)}


def test_the_corrected_results_of_a_run_are_read_as_labels(tmp_path: Path) -> None:
    model = Model(1, "00", "clothes", 1, CLASSIFY.name, ("hat", "shoe"), {}, {}, "production")
    best = {"clothes": [("hat", 0.6), ("shoe", 0.4)]}
    names = enumerate(("a.png", "b.png"))
    tagged = [ImageResult(n, f"{n}", name, "tagged", None, None, "00", 60, 40, best) for n, name in names]
    failed = ImageResult(2, "2", "gone.png", "failed", "not_found", "no file", None, None, None)
    written = io.BytesIO()
    about = ResultSet((("clothes", model),), lambda: iter([*tagged, failed]))
    write_csv(about, about, written, WriteOptions())
    before = "b.png,tagged,,,00,60,40,0,hat"
    corrected = written.getvalue().decode().replace(before, before.replace("hat", "shoe"))
    table = write_table(tmp_path / "results.csv", *corrected.splitlines())
    assert labels_of(table) == {"a.png": ("hat",), "b.png": ("shoe",)}
    assert read_labeled_images(table).notes == (f"{table}: 1 images that were not tagged are left out",)


def test_a_label_column_comes_before_the_column_of_a_model(tmp_path: Path) -> None:
    table = write_table(tmp_path / "r.csv", "uri,clothes.label,label", "a.png,hat,shoe")
    assert labels_of(table) == {"a.png": ("shoe",)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), r"t\.csv:1: has no column uri"),
        (("url,label", "a.png,hat"), r"t\.csv:1: has no column uri"),
        (("uri,title", "a.png,hat"), r"t\.csv:1: has no column label or labels"),
        (
            ("uri,one.label,two.label", "a.png,hat,hat"),
            r"t\.csv:1: has several columns of labels, one.label, two.label",
        ),
        (("uri,label", "a.png,hat", "b.png,wide, red"), r"t\.csv:3: has 3 columns, its header 2"),
        (("uri,label", ",hat"), r"t\.csv:2: has no uri"),
        (("uri,label", "a.png,hat", "http://shop/b.png,hat"), r"t\.csv:3: http://shop/b\.png is a URL; download"),
        (("uri,label", '"a.png,hat'), r"t\.csv:2: is not CSV"),
        (("uri,label", "x.png,hat", "y.png,shoe"), r"none of its 2 images is there; the first would be .*x\.png"),
    ],
)
def test_the_error_of_a_malformed_table_names_the_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labeled_images(write_table(tmp_path / "t.csv", *lines))


def test_a_table_without_rows_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="holds no labeled image"):
        read_labeled_images(write_table(tmp_path / "t.csv", "uri,label"))


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"uri,label\na.png,h\xfct\n")
    with pytest.raises(InputError, match="is not UTF-8; save it as CSV UTF-8"):
        read_labeled_images(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "is not a folder"), ("a.png", "is neither a folder nor a .csv")]
)
def test_an_unknown_format_is_refused(tmp_path: Path, name: str, message: str) -> None:
    write_images(tmp_path)
    for read in (read_labeled_images, read_masked_images, list_images):
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)  # type: ignore[operator]


def test_a_classifier_takes_exactly_one_label_per_image(tmp_path: Path) -> None:
    one, two, none = read_labeled_images(
        write_table(tmp_path / "t.csv", "uri,labels", "a.png,hat", "b.png,hat|red", "c.png,")
    ).images
    assert to_example(one, 4, multilabel=False).target == "hat"
    assert to_example(two, 4, multilabel=True).target == ("hat", "red")
    assert to_example(none, 4, multilabel=True).target == ()
    with pytest.raises(InputError, match=r"t\.csv:3: b\.png has 2 labels, hat, red; .* --multilabel"):
        to_example(two, 4, multilabel=False)
    with pytest.raises(InputError, match=r"t\.csv:4: c\.png has no label"):
        to_example(none, 4, multilabel=False)


# COCO


def write_coco(path: Path, shown: Sequence[dict[str, Any]] = (), **parts: Any) -> Path:
    """Write a COCO file of three 60x40 images and the categories square (3) and stripe (7)."""
    content = {
        "images": [{"id": n, "file_name": f"{name}.png", "width": 60, "height": 40} for n, name in enumerate("abc")],
        "categories": [{"id": 7, "name": "stripe"}, {"id": 3, "name": "square"}],
        "annotations": [{"id": 100 + number, **entry} for number, entry in enumerate(shown)],
    }
    return write_json(path, content | parts)


def rectangle(left: int, top: int, right: int, bottom: int) -> list[float]:
    """Return a COCO polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


SQUARE = {"image_id": 0, "category_id": 3, "segmentation": [rectangle(10, 10, 30, 30)]}
STRIPE = {"image_id": 0, "category_id": 7, "segmentation": [rectangle(20, 0, 24, 40)]}


def test_coco_annotations_label_their_images(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco.json", [SQUARE, STRIPE, SQUARE, {"image_id": 2, "category_id": 7}])
    assert labels_of(source) == {"a.png": ("square", "stripe"), "b.png": (), "c.png": ("stripe",)}


def test_coco_polygons_become_masks_with_small_shapes_over_large_ones(tmp_path: Path) -> None:
    found = read_masked_images(write_coco(tmp_path / "coco.json", [STRIPE, SQUARE]), 2)
    assert found.labels == LABELS
    mask = read_mask(found.examples[0].target, PreprocessSpec(40, 60), found.table(LABELS), (60, 40))  # type: ignore[arg-type]
    expected = np.zeros((40, 60), dtype=np.uint8)
    expected[10:30, 10:30] = 1
    expected[:, 20:24] = 2
    assert np.array_equal(mask, expected)
    assert [entry.source for entry in found.examples] == [2, 2, 2]
    assert not read_mask(found.examples[1].target, PreprocessSpec(40, 60), found.table(LABELS), (60, 40)).any()  # type: ignore[arg-type]


def test_coco_run_lengths_of_both_forms_become_masks(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), dtype=np.uint8, order="F")
    mask[5:9, 50:] = 1
    packed = coco.encode(mask)
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    plain = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    for counts in (packed["counts"].decode("ascii"), plain):
        entry = {"image_id": 1, "category_id": 7, "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": counts}}
        found = read_masked_images(write_coco(tmp_path / "coco.json", [entry]))
        drawn = found.examples[1].target.draw()  # type: ignore[union-attr]
        assert np.array_equal(drawn, mask * 2)


@pytest.mark.parametrize("place", ["images/a.png", "../a.png", "../val2017/a.png", "../images/a.png"])
def test_coco_images_are_found_in_the_usual_places(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "set" / "annotations"
    source = write_coco(folder / "instances_val2017.json")
    for path in folder.glob("*.png"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        path.rename((folder / place).with_name(path.name))
    assert all(path.is_file() for path in list_images(source))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": 3}, "has no images, or it is not a list"),
        ({"categories": None}, "has no categories"),
        ({"images": [{"id": "x"}]}, r"images\[0\]: has no id, or it is not a whole number"),
        ({"images": [{"id": 1}]}, "image 1: has no file_name"),
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, r"images\[1\]: id 1 stands there twice"),
        ({"images": [{"id": 1, "file_name": "s3://b/a.png"}]}, "image 1: s3://b/a.png is a URL"),
        ({"images": [{"id": 1, "file_name": "zz.png"}]}, "none of its 1 images is there"),
        ({"annotations": ["x"]}, "annotation 0: has no image_id"),
        ({"annotations": [{"id": 5, "image_id": 9, "category_id": 3}]}, "annotation 5: there is no image 9"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 4}]}, "annotation 5: there is no category 4"),
        ({"categories": [{"id": 3}]}, "category 3: has no name"),
    ],
)
def test_the_error_of_a_malformed_coco_file_names_the_place(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_labeled_images(write_coco(tmp_path / "coco.json", **parts))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "annotation 100: has no segmentation of polygons or run lengths"),
        ([], "has no segmentation"),
        ([[1, 2, 3, 4]], "has no segmentation"),
        ([[0, 0, 9, 0, 9, float("nan")]], "has no segmentation"),
        ([[0, 0, 9e9, 0, 9, 9]], "has no segmentation"),
        ({"size": [40, 61], "counts": [2440]}, r"run lengths are for \[40, 61\], its image has \[40, 60\]"),
        ({"size": [40, 60], "counts": [2399]}, "do not add up"),
        ({"size": [40, 60], "counts": [2401, -1]}, "do not add up"),
        ({"size": [40, 60], "counts": ["2400"]}, "do not add up"),
        ({"size": [40, 60], "counts": "zzzz"}, "do not add up"),
        ({"size": [40, 60], "counts": ""}, "do not add up"),
    ],
)
def test_an_annotation_without_a_valid_shape_is_refused(tmp_path: Path, shape: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_masked_images(write_coco(tmp_path / "coco.json", [SQUARE | {"segmentation": shape}]))


def test_a_coco_image_without_a_size_has_no_mask(tmp_path: Path) -> None:
    images = [{"id": 0, "file_name": "a.png", "width": 60}]
    with pytest.raises(InputError, match="image 0: has no height"):
        read_masked_images(write_coco(tmp_path / "coco.json", [SQUARE], images=images))
    with pytest.raises(InputError, match="image 0: cannot be 0x40 pixels"):
        read_masked_images(
            write_coco(tmp_path / "coco.json", [SQUARE], images=[images[0] | {"width": 0, "height": 40}])
        )


def test_coco_categories_that_masks_cannot_hold_are_refused(tmp_path: Path) -> None:
    same = [{"id": 1, "name": "one"}, {"id": 2, "name": "one"}]
    with pytest.raises(InputError, match="two categories have the same name"):
        read_masked_images(write_coco(tmp_path / "coco.json", categories=same))
    many = [{"id": number, "name": f"{number}"} for number in range(255)]
    with pytest.raises(InputError, match="has 255 categories; masks hold 1 to 254"):
        read_masked_images(write_coco(tmp_path / "coco.json", categories=many))


def test_a_coco_file_without_images_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="holds no image"):
        read_labeled_images(write_coco(tmp_path / "coco.json", images=[]))


# Label Studio


def reviewed(uri: str, *choices: str, **more: Any) -> dict[str, Any]:
    """Return a task of Label Studio with one annotation."""
    result = [{"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": list(choices)}}]
    return {"id": 1, "data": {"image": uri}, "annotations": [{"result": result, **more}]}


def test_the_choices_of_a_label_studio_export_are_labels(tmp_path: Path) -> None:
    local, upload = "/data/local-files/?d=c.png", "/data/upload/4/0a1b2c3d-b.png"
    tasks = [reviewed("a.png", "hat"), reviewed(upload, "shoe", "red"), reviewed(local, "shoe")]
    source = write_json(tmp_path / "export.json", tasks)
    assert labels_of(source) == {"a.png": ("hat",), "b.png": ("shoe", "red"), "c.png": ("shoe",)}


def test_a_local_file_of_label_studio_may_be_named_from_the_root(tmp_path: Path) -> None:
    far = write_image(tmp_path / "far" / "my hat.png", "red")
    local = f"/data/local-files/?d={str(far)[1:].replace(' ', '%20')}"
    source = write_json(tmp_path / "here" / "export.json", [reviewed(local, "hat")])
    assert list_images(source) == [far]


def test_unfinished_tasks_are_left_out_and_counted(tmp_path: Path) -> None:
    unfinished = {"id": 2, "data": {"image": "b.png"}, "annotations": [], "predictions": [{"result": []}]}
    skipped = reviewed("c.png", "hat", was_cancelled=True)
    source = write_json(tmp_path / "export.json", [reviewed("a.png", "hat"), unfinished, skipped])
    assert labels_of(source) == {"a.png": ("hat",)}
    assert read_labeled_images(source).notes == (f"{source}: 2 tasks that nobody finished are left out",)
    with pytest.raises(NothingToDo, match="none of its 2 tasks is annotated"):
        read_labeled_images(write_json(tmp_path / "other.json", [unfinished, skipped]))


def test_the_newest_of_several_annotations_counts(tmp_path: Path) -> None:
    task = reviewed("a.png", "shoe", updated_at="2026-03-02T10:00:00Z")
    task["annotations"] += reviewed("a.png", "hat", updated_at="2026-03-01T10:00:00Z")["annotations"]
    assert labels_of(write_json(tmp_path / "export.json", [task])) == {"a.png": ("shoe",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "is neither COCO .* nor a Label Studio export"),
        ({"tasks": []}, "is neither COCO"),
        (["x"], "task 0: has no annotations"),
        ([reviewed("a.png", "hat") | {"data": {}}], "task 1: its data has no image"),
        ([reviewed("https://shop/a.png", "hat")], "task 1: https://shop/a.png is a URL"),
        ([{"id": 8, "data": {"image": "a.png"}, "annotations": [{}]}], "task 8: has no result"),
        ([reviewed("a.png", ["deep", "tree"])], "task 1: a choice is not text"),  # type: ignore[arg-type]
        ([reviewed("zz.png", "hat")], "none of its 1 images is there"),
    ],
)
def test_a_malformed_label_studio_file_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labeled_images(write_json(tmp_path / "export.json", content))


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"deep\.json: is nested too deeply to describe images"):
        read_labeled_images(tmp_path / "deep.json")


def test_an_impossible_file_name_is_refused(tmp_path: Path) -> None:
    content = write_json(tmp_path / "tasks.json", [reviewed("a\0b.png", "hat")])
    with pytest.raises(InputError, match=r"a\\x00b\.png cannot be the name of a file"):
        read_labeled_images(content)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json: is not JSON"):
        read_labeled_images(tmp_path / "x.json")


# images/, masks/, labels.json, groups.json


def write_masked(folder: Path, labels: Any = LABELS, groups: Any = None, label_folder: Path | None = None) -> Path:
    """Write one 4x2 image whose mask holds 0, 1, 2 and 255, and its labels into the same or another folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 2)).save(folder / "images" / "one.jpg")
    Image.fromarray(np.array([[0, 1, 2, 255]] * 2, dtype=np.uint8)).save(folder / "masks" / "one.png")
    (label_folder or folder).joinpath("labels.json").write_text(json.dumps(labels))
    if groups is not None:
        (label_folder or folder).joinpath("groups.json").write_text(json.dumps(groups))
    return folder


def values(folder: Path, wanted: tuple[str, ...]) -> list[int]:
    """Return a row of the mask of `write_masked`, in indexes of the wanted labels."""
    found = read_masked_images(folder)
    mask = read_mask(found.examples[0].target, PreprocessSpec(2, 4), found.table(wanted), (4, 2))  # type: ignore[arg-type]
    return [int(value) for value in mask[0]]


def test_the_labels_of_mask_values_are_read_from_labels_json(tmp_path: Path) -> None:
    assert read_masked_images(write_masked(tmp_path)).labels == LABELS
    assert values(tmp_path, LABELS) == [0, 1, 2, IGNORE]


def test_labels_and_groups_may_be_in_the_parent_folder(tmp_path: Path) -> None:
    write_masked(
        tmp_path / "train", groups={"things": ["square", "stripe"], "rest": ["background"]}, label_folder=tmp_path
    )
    assert read_masked_images(tmp_path / "train").labels == ("things", "rest")


def test_groups_merge_labels_in_the_order_of_the_file(tmp_path: Path) -> None:
    write_masked(tmp_path, groups={"things": ["square", "stripe"], "rest": ["background"]})
    assert values(tmp_path, ("things", "rest")) == [1, 0, 0, IGNORE]


def test_groups_are_not_used_for_a_model_of_the_stored_labels(tmp_path: Path) -> None:
    write_masked(tmp_path, groups={"things": ["square", "stripe"], "rest": ["background"]})
    assert values(tmp_path, ("stripe", "square", "background")) == [2, 1, 0, IGNORE]
    with pytest.raises(InputError, match="label 'rest' is not one of the model's: hat"):
        values(tmp_path, ("hat",))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["square"], "must be a JSON object of at least two groups"),
        ({"all": list(LABELS)}, "must be a JSON object of at least two groups"),
        ({"a": [], "b": list(LABELS)}, "each a list of labels"),
        ({"a": ["hat"], "b": list(LABELS)}, "'hat' in group 'a' is not a label of labels.json"),
        ({"a": ["square"], "b": list(LABELS)}, "'square' stands in two groups"),
        ({"a": ["square"], "b": ["stripe"]}, "'background' is in no group"),
    ],
)
def test_groups_that_do_not_match_the_labels_are_refused(tmp_path: Path, groups: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"groups\.json: .*{message}"):
        read_masked_images(write_masked(tmp_path, groups=groups))


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="has no masks/"):
        read_masked_images(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="no image in images/ has a mask"):
        read_masked_images(tmp_path)


def test_images_without_a_mask_are_left_out_and_counted(tmp_path: Path) -> None:
    write_images(write_masked(tmp_path) / "images")
    found = read_masked_images(tmp_path)
    assert [entry.image.name for entry in found.examples] == ["one.jpg"]
    assert found.notes == (f"{tmp_path}: 3 images without a mask are left out",)


def test_a_table_has_no_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no masks; a segmenter needs"):
        read_masked_images(write_table(tmp_path / "t.csv", "uri,label", "a.png,hat"))


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "a"], {"a": 1}, [1, 2], [str(number) for number in range(256)]])
def test_invalid_mask_labels_are_refused(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(InputError, match=r"labels\.json"):
        read_masked_images(write_masked(tmp_path, labels))


def test_the_error_names_a_missing_labels_json(tmp_path: Path) -> None:
    (write_masked(tmp_path / "set") / "labels.json").unlink()
    with pytest.raises(InputError, match=r"set/labels\.json: is missing"):
        read_masked_images(tmp_path / "set")


def test_a_second_folder_may_have_the_same_labels_in_another_order(tmp_path: Path) -> None:
    table = translation_table(("background", "stripe", "square"), LABELS, tmp_path)
    assert table[[0, 1, 2, 3, 255]].tolist() == [0, 2, 1, IGNORE, IGNORE]
    with pytest.raises(InputError, match="label 'hat' is not one of the model's"):
        translation_table(("background", "hat"), LABELS, tmp_path)

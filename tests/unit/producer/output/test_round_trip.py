"""What Tagmill writes it reads back unchanged: keys, locations and labels through every writer and reader."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.bundles import write_classifier
from support.image_fixtures import write_image

from producer.cli.results import results as results_command
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import WriteOptions
from producer.output.writers.csv_writer import write_csv
from producer.output.writers.jsonl_writer import write_jsonl
from producer.output.writers.mask_png_writer import write_masks
from producer.sources.open import open_sources
from tagmill.images.preprocess import PreprocessSpec
from tagmill.records import Entry
from tagmill.registry.models import Model
from tagmill.settings import Settings
from tagmill.tasks.masks import encode_masks
from tagmill.text import normalize
from training.annotations.open import read_labeled_images, read_masked_images
from worker.local.tag import local_settings, tag_locally

#: what separates fields, labels and cells, what quotes, and what begins a formula
RISKY = st.text(
    st.sampled_from(",;|\t\r\n \"'\\/[]{}:=+-@#%\u00e9e\u0301\uac00\u1100\u1161a1"), min_size=1, max_size=12
)
TEXTS = st.one_of(RISKY, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
KEYS = TEXTS.map(normalize).filter(bool)
#: a label is on one line: other names are refused before a training starts
LABELS = RISKY.map(lambda text: normalize(text.translate({9: " ", 10: " ", 13: " "}))).filter(bool)
HEALTH = [HealthCheck.function_scoped_fixture]


def model(labels: Sequence[str], task: str = "classify") -> Model:
    details = {"preprocess": PreprocessSpec(8, 8).to_dict(), "background": labels[0]}
    return Model(1, "0" * 64, "m", 1, task, tuple(labels), details, {}, "candidate")


MODEL = model(["a", "b"])


def tagged(position: int, key: str, uri: str, label: str) -> ImageResult:
    facts = ("tagged", None, None, "1" * 64, 8, 8)
    return ImageResult(position, key, uri, *facts, {"m": [(label, 0.5)]}, {}, {"m": MODEL})


def as_csv(path: Path, found: Sequence[ImageResult]) -> Path:
    about = ResultSet((("m", model(["a", "b"])),), lambda: iter(found), find_ascii=lambda: False)
    with path.open("wb") as out:
        write_csv(about, about, out, WriteOptions(for_people=True))
    return path


@settings(max_examples=150, suppress_health_check=HEALTH)
@given(st.lists(st.tuples(KEYS, KEYS), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
@example([("=cmd|' /C calc'!A0", "a;=1"), ("'=1", "a\n=1"), ("'a", "a b")])
def test_results_are_read_as_a_manifest(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    entries = [Entry(key, f"https://shop.example/{place}") for key, place in pairs]
    first = tmp_path / "first.csv"
    with first.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("image_key", "uri"), *((entry.image_key, entry.uri) for entry in entries)])
    assert list(open_sources([str(first)])) == entries
    again = as_csv(tmp_path / "again.csv", [tagged(0, entry.image_key, entry.uri, "a") for entry in entries])
    assert list(open_sources([str(again)])) == entries


@settings(max_examples=150, suppress_health_check=HEALTH)
@given(LABELS)
@example("a|b")
@example("\\|")
@example("=1+1")
@example("'-")
def test_a_label_of_the_results_is_read_as_a_label(tmp_path: Path, label: str) -> None:
    image = tmp_path / "a.png"
    if not image.exists():
        write_image(image, "red")
    found = read_labeled_images(as_csv(tmp_path / "results.csv", [tagged(0, "a", str(image), label)]))
    assert [labeled.labels for labeled in found.images] == [(label,)]


@settings(max_examples=100, suppress_health_check=HEALTH)
@given(KEYS, LABELS)
def test_json_lines_hold_keys_and_labels_unchanged(key: str, label: str) -> None:
    out = io.BytesIO()
    about = ResultSet((), lambda: iter([tagged(0, key, "/a", label)]))
    write_jsonl(about, about, out, WriteOptions())
    (line,) = out.getvalue().splitlines()
    found = json.loads(line)
    assert (found["image_key"], found["models"]["m"]["labels"][0]["label"]) == (key, label)


@pytest.mark.parametrize(
    "name", ["a.jpg", "in/=b.png", "x:y|z.webp", "A B.JPG", "cafe\u0301.png", "it's [1].gif", "a..bmp"]
)
def test_the_masks_of_a_run_are_training_data(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "images" / name, "red", size=(8, 8))
    (entry,) = open_sources([str(tmp_path / "images")])
    index = np.zeros((8, 8), dtype=np.uint8)
    index[2:5, 1:7] = 1
    labels = ("background", "a|b, [c]")
    masks = encode_masks(index, (0.5, 0.9), labels, "background", PreprocessSpec(8, 8), 8, 8)
    found = ImageResult(0, entry.image_key, entry.uri, "tagged", None, None, "1" * 64, 8, 8, {}, {"m": list(masks)})
    assert write_masks([found], [("m", model(labels, "segment"))], tmp_path) == 1
    (tmp_path / "m").rename(tmp_path / "masks")
    read = read_masked_images(tmp_path)
    assert read.labels == labels
    (sample,) = read.examples
    assert np.array_equal(np.asarray(Image.open(sample.target)), index)  # type: ignore[arg-type]


@settings(max_examples=100, suppress_health_check=HEALTH)
@given(LABELS.filter(lambda label: "/" not in label and not label.startswith(".")))
def test_a_category_is_the_same_in_every_format(tmp_path_factory: pytest.TempPathFactory, label: str) -> None:
    assume(len(label.encode()) < 200)
    folder = tmp_path_factory.mktemp("set")
    write_image(folder / "tree" / label / "a.png", "red")
    (image,) = read_labeled_images(folder / "tree").images
    assert image.labels == (label,)
    coco = {
        "images": [{"id": 1, "file_name": str(image.image), "width": 8, "height": 8}],
        "categories": [{"id": 1, "name": label}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    }
    result = [{"type": "choices", "value": {"choices": [label]}}]
    tasks = [{"data": {"image": str(image.image)}, "annotations": [{"result": result}]}]
    for name, content in (("coco.json", coco), ("tasks.json", tasks)):
        (folder / name).write_text(json.dumps(content))
        (found,) = read_labeled_images(folder / name).images
        assert (found.image, found.labels) == (image.image, (label,))


def test_a_csv_begins_with_a_byte_order_mark_if_it_holds_other_characters_than_ascii(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMILL_DATABASE_URL", sqlite_url)
    settings, bundle = local_settings(Settings(), sqlite_url), write_classifier(tmp_path / "c.onnx")
    for number, name in enumerate(("a.png", "\ud55c\uae00.png"), 1):
        write_image(tmp_path / f"{number}" / name, "red")
        tag_locally(settings, [str(tmp_path / f"{number}")], [bundle], 2, lambda progress: None)
        done = CliRunner().invoke(results_command, [str(number), "-o", str(tmp_path / "tags.csv")])
        assert done.exit_code == 0, done.output
        written = (tmp_path / "tags.csv").read_bytes()
        assert written.startswith(b"\xef\xbb\xbf") == (number == 2)
        assert name in written.decode("utf-8-sig")
        (entry,) = open_sources([str(tmp_path / "tags.csv")])
        assert entry.image_key == name

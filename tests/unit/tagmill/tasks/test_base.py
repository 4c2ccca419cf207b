"""What a task must provide, and that a new one needs no other file to tag images with.

A new task is added to `EXAMPLES`; all tests of this file then hold it to the same rules.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.bundles import COLORS, write_box_finder

import tagmill.tasks
from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import select_results
from producer.output.writers.base import WriteOptions
from producer.output.writers.csv_writer import write_csv
from tagmill.bundles.metadata import BundleSpec
from tagmill.images.preprocess import PreprocessSpec
from tagmill.records import Mask
from tagmill.settings import Settings
from tagmill.tasks.base import MASK, SCORES, TOP_LABELS, TOP_SCORES, Headline, Prediction, Task, task_named, task_names
from worker.local.tag import local_settings, tag_locally

LABELS = ("background", "shirt", "shoe")
#: pixels of an image, and of the model's input
WIDTH, HEIGHT, SIZE = 120, 60, (4, 6)

#: the methods that every task implements
REQUIRED = {
    "prediction",  # the outputs of a call -> Prediction
    "wanted_outputs",  # the outputs to ask the graph for
    "rows",  # Prediction -> labels and masks, as SQL stores them
    "main_labels",  # the label that stands for an image
    "difference",  # how far two predictions are apart: golden samples
    "columns",  # the CSV columns of a model
    "values",  # labels and masks -> its CSV values
    "tally",  # collects predictions and targets, and returns the figures
    "headlines",  # the figures that people read first
}
#: the attributes that every task sets; the others have defaults
ATTRIBUTES = {"name", "summary", "outputs", "headline", "label_figure"}


@dataclass(frozen=True)
class Example:
    """What a model without a mistake predicts for a few images, and their targets."""

    prediction: Prediction
    targets: np.ndarray


def sure_of(truth: np.ndarray) -> np.ndarray:
    """Return scores of 0.8 for what is true, and of 0.1 for the rest."""
    return np.where(truth, 0.8, 0.1).astype(np.float32)


def masks() -> np.ndarray:
    """Return a mask for each of three images: a shirt on the left, a shoe on the right, and both."""
    found = np.zeros((3, *SIZE), dtype=np.uint8)
    found[0, 1:3, :3], found[1, 2:, 3:] = 1, 2
    found[2, :, :2], found[2, :, 4:] = 1, 2
    return found


SEVERAL = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 1]], dtype=np.uint8)
EXAMPLES = {
    "classify": Example(Prediction(sure_of(np.eye(3))), np.arange(3)),
    "multilabel": Example(Prediction(sure_of(SEVERAL)), SEVERAL),
    "segment": Example(Prediction(np.full((3, 3), 0.9, dtype=np.float32), masks()), masks()),
}
every_task = pytest.mark.parametrize("task", [task_named(name) for name in EXAMPLES], ids=str)


def bundle_of(task: Task) -> BundleSpec:
    return BundleSpec("shop", task, LABELS, PreprocessSpec(*SIZE), background=task.background(LABELS))


def answered(prediction: Prediction, names: list[str]) -> dict[str, np.ndarray]:
    """Return these outputs of a graph that predicts so."""
    order = np.argsort(-prediction.scores, axis=1, kind="stable")
    outputs = {
        SCORES: prediction.scores,
        TOP_SCORES: np.take_along_axis(prediction.scores, order, 1),
        TOP_LABELS: order,
    }
    if prediction.mask is not None:
        outputs[MASK] = prediction.mask
    return {name: outputs[name] for name in names}


def wrong(prediction: Prediction) -> Prediction:
    """Return a prediction that gives every image the labels of another one."""
    return prediction.at(np.array([1, 2, 0]))


def test_every_task_has_an_example_here() -> None:
    assert {name for name in task_names() if task_named(name).least_labels} == set(EXAMPLES)


def test_a_name_without_a_module_is_refused() -> None:
    for name in ("base", "figures", "cook", "../segment"):
        with pytest.raises(ValueError, match="is not a task; known are classify, embed, multilabel, segment"):
            task_named(name)


def test_these_are_the_methods_that_a_task_must_have() -> None:
    assert Task.__abstractmethods__ == REQUIRED


@every_task
def test_a_task_is_one_object_named_as_its_module(task: Task) -> None:
    module = import_module(f"tagmill.tasks.{task.name}")
    assert module.TASK is task
    assert (task.name, str(task)) == (module.__name__.rpartition(".")[2], task.name)
    assert not vars(task), "a task holds no state"
    assert len(task.name) <= 20, "the column in SQL"
    for attribute in ATTRIBUTES:
        assert getattr(task, attribute), attribute


@every_task
def test_a_prediction_comes_back_from_the_outputs_that_the_task_asks_for(task: Task) -> None:
    made = EXAMPLES[task.name].prediction
    assert set(task.wanted_outputs(0)) <= set(task.outputs)
    found = task.prediction(answered(made, task.wanted_outputs(0)))
    assert task.difference(made, found)[0] == 0.0
    assert Prediction.join([found.at(slice(0, 1)), found.at(slice(1, 3))]).scores.tolist() == made.scores.tolist()


@every_task
def test_a_prediction_becomes_rows_and_csv_values(task: Task) -> None:
    spec, made = bundle_of(task), EXAMPLES[task.name].prediction
    columns = task.columns("shop")
    assert len(set(columns)) == len(columns)
    assert all(column.startswith("shop.") for column in columns)
    for number in range(len(made.scores)):
        labels, found = task.rows(spec, made, number, WIDTH, HEIGHT)
        assert labels or found
        assert [score for _, score in labels] == sorted((score for _, score in labels), reverse=True)
        assert {label for label, _ in labels} | {mask.label for mask in found} <= set(LABELS)
        assert bool(found) == task.gives_masks
        json.dumps([labels, [asdict(mask) for mask in found]], allow_nan=False)
        values = task.values(labels, found)
        assert len(values) == len(columns)
        named = LABELS[int(task.main_labels(made)[number])]
        assert any(named in value for value in values)
        for mask in found:
            check_box(mask)


def check_box(mask: Mask) -> None:
    left, top, right, bottom = mask.box
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT


@every_task
def test_an_image_without_a_result_has_empty_csv_values(task: Task) -> None:
    assert task.values((), ()) == ("",) * len(task.columns("shop"))


@every_task
def test_labels_that_the_graph_picks_are_stored_like_those_picked_here(task: Task) -> None:
    spec, made = bundle_of(task), EXAMPLES[task.name].prediction
    picked = task.prediction(answered(made, task.wanted_outputs(len(LABELS))))
    for number in range(len(made.scores)):
        assert task.rows(spec, picked, number, WIDTH, HEIGHT) == task.rows(spec, made, number, WIDTH, HEIGHT)


@every_task
def test_other_predictions_differ(task: Task) -> None:
    made = EXAMPLES[task.name].prediction
    difference, of_what = task.difference(made, wrong(made))
    assert difference > 0.1
    assert of_what


@every_task
def test_the_figure_that_decides_is_one_without_a_mistake_and_less_with_some(task: Task) -> None:
    example = EXAMPLES[task.name]
    measured = task.measure(example.prediction, example.targets, LABELS)
    assert measured.figures[task.headline] == 1.0
    assert measured.figures["images"] == 3
    assert set(measured.per_label) <= set(LABELS)
    assert len(measured.precision) == len(measured.recall) == len(LABELS)
    assert measured.confusion is None or measured.confusion.shape == (len(LABELS), len(LABELS))
    assert task.measure(wrong(example.prediction), example.targets, LABELS).figures[task.headline] < 1.0


@every_task
def test_images_are_measured_alike_in_one_call_and_in_several(task: Task) -> None:
    example, tally = EXAMPLES[task.name], task.tally(LABELS)
    for part in (slice(0, 1), slice(1, 3)):
        tally.add(example.prediction.at(part), example.targets[part])
    whole = task.measure(example.prediction, example.targets, LABELS)
    assert tally.measured().figures == whole.figures


@every_task
def test_the_headlines_are_made_of_the_figures(task: Task) -> None:
    example = EXAMPLES[task.name]
    figures = task.measure(example.prediction, example.targets, LABELS).figures
    headlines = task.headlines(figures, len(LABELS), "on 3 test images", None)
    assert headlines
    for found in headlines:
        assert isinstance(found, Headline)
        assert found.name
        assert found.value


@pytest.fixture
def toybox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The task in `toy/toybox.py`, as if that file were in `tagmill/tasks/`."""
    monkeypatch.setattr(tagmill.tasks, "__path__", [*tagmill.tasks.__path__, str(Path(__file__).parent / "toy")])
    task_names.cache_clear()
    yield task_named("toybox")
    task_names.cache_clear()
    task_named.cache_clear()
    del sys.modules["tagmill.tasks.toybox"], tagmill.tasks.toybox  # type: ignore[attr-defined]  # set by its import


def test_one_file_is_a_task_from_its_bundle_through_sql_to_csv(toybox: Task, sqlite_url: str, tmp_path: Path) -> None:
    """No other file knows the task: not the session, not the worker's stages, not the ledger, not the CSV writer."""
    assert "toybox" in task_names()
    shop = tmp_path / "shop"
    shop.mkdir()
    for name, color, box in (("a", (255, 0, 0), (8, 4, 24, 12)), ("b", (0, 0, 255), (0, 0, 16, 28))):
        image = Image.new("RGB", (32, 32))
        image.paste(color, box)
        image.save(shop / f"{name}.png")
    bundle = write_box_finder(tmp_path / "boxes.onnx", toybox)
    settings = local_settings(Settings(device="cpu"), sqlite_url)
    done = tag_locally(settings, [str(shop)], [bundle], 2, lambda progress: None)
    out = io.BytesIO()
    about = select_results(done.engine, ResultQuery((done.progress.run,)))
    write_csv(about, about, out, WriteOptions())
    rows = csv.DictReader(io.StringIO(out.getvalue().decode()))
    assert {row["image_key"]: row["boxes.boxes"] for row in rows} == {
        "a.png": "red:8,4,24,12",
        "b.png": "blue:0,0,16,28",
    }


def test_the_toy_task_is_measured_like_any_other(toybox: Task) -> None:
    boxes = np.tile(np.array([0, 0, 4, 4]), (2, 3, 1))
    made = toybox.prediction({SCORES: np.ones((2, 3), dtype=np.float32), "boxes": boxes})
    assert toybox.measure(made, boxes, COLORS).figures["mean_overlap"] == 1.0
    half = np.tile(np.array([0, 0, 2, 4]), (2, 3, 1))
    assert toybox.measure(made, half, COLORS).figures["mean_overlap"] == 0.5

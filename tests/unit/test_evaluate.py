"""`tagmill evaluate`: what a bundle gets right on labelled pictures, with ONNX Runtime alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import COLOURS, write_classifier, write_segmenter
from click.testing import CliRunner
from pictures import write_picture
from PIL import Image
from test_train_cnn import draw_noisy
from test_train_segment import draw_shapes

from export.bundle_file import export_bundle
from export.cli import evaluate as command
from export.evaluate import evaluate
from tagmill.errors import ConfigurationError, InputError, NothingToDo
from training.cnn import DEFAULTS as CNN
from training.cnn import train_cnn
from training.dataset import Folders
from training.networks import Arch
from training.segment import DEFAULTS as SEGMENT
from training.segment import train_segment
from worker.session import Session


def write_colours(folder: Path, wrong: int = 0) -> Path:
    """Write ten pictures a colour; `wrong` of the green ones lie among the red."""
    for colour in COLOURS:
        for number in range(10):
            write_picture(folder / colour / f"{number}.png", colour, shade=number)
    for number in range(wrong):
        (folder / "green" / f"{number}.png").replace(folder / "red" / f"wrong-{number}.png")
    return folder


def write_masked(folder: Path) -> Path:
    """Write a picture that is half red, half white, and a mask that calls a quarter of it red."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((230, 20, 20), (0, 0, 32, 64))
    picture.save(folder / "images" / "one.png")
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, :16] = 1
    Image.fromarray(mask).save(folder / "masks" / "one.png")
    (folder / "labels.json").write_text(json.dumps(["background", *COLOURS]))
    return folder


@pytest.fixture
def classifier(tmp_path: Path) -> Session:
    return Session(write_classifier(tmp_path / "colours.onnx"), device="cpu")


def test_accuracy_is_counted_by_category(classifier: Session, tmp_path: Path) -> None:
    report = evaluate(classifier, [write_colours(tmp_path / "data", wrong=6)])
    assert report["accuracy"] == 0.8
    assert report["images"] == 30
    assert report["per_class"] == {"red": 0.625, "green": 1.0, "blue": 1.0}
    assert report["top5"] == 1.0
    assert report["macro_f1"] == pytest.approx((10 / 13 + 4 / 7 + 1) / 3, abs=1e-5)
    assert report["failures"] == []
    assert report["images_per_second"] > 0


def test_several_folders_are_measured_together(classifier: Session, tmp_path: Path) -> None:
    report = evaluate(classifier, [write_colours(tmp_path / "one", wrong=6), write_colours(tmp_path / "two")])
    assert report["images"] == 60
    assert report["accuracy"] == 0.9


def test_an_unreadable_picture_is_a_failure_and_the_rest_is_measured(classifier: Session, tmp_path: Path) -> None:
    data = write_colours(tmp_path / "data")
    (data / "red" / "3.png").write_bytes(b"<html>")
    report = evaluate(classifier, [data])
    assert report["images"] == 29
    assert report["accuracy"] == 1.0
    assert [Path(failure["path"]).name for failure in report["failures"]] == ["3.png"]
    assert "not_an_image" in report["failures"][0]["reason"]


def test_pictures_of_which_none_can_be_read_are_nothing_to_do(classifier: Session, tmp_path: Path) -> None:
    (tmp_path / "data" / "red").mkdir(parents=True)
    (tmp_path / "data" / "red" / "one.jpg").write_bytes(b"")
    with pytest.raises(NothingToDo, match="none of 1 pictures could be read"):
        evaluate(classifier, [tmp_path / "data"])


def test_a_category_that_the_bundle_does_not_know_is_named(classifier: Session, tmp_path: Path) -> None:
    write_picture(tmp_path / "data" / "violet" / "one.png", "red")
    with pytest.raises(InputError, match=r"category violet is not a label of colours\.onnx, which has: red"):
        evaluate(classifier, [tmp_path / "data"])


def test_the_mean_iou_of_masks_is_known_by_arithmetic(tmp_path: Path) -> None:
    session = Session(write_segmenter(tmp_path / "masks.onnx"), device="cpu")
    report = evaluate(session, [write_masked(tmp_path / "data")])
    assert report["pixel_accuracy"] == pytest.approx(0.75, abs=0.03)
    assert report["per_class_iou"]["red"] == pytest.approx(0.5, abs=0.04)
    assert report["per_class_iou"]["background"] == pytest.approx(2 / 3, abs=0.04)
    assert set(report["per_class_iou"]) == {"background", "red"}
    assert report["mean_iou"] == pytest.approx(np.mean(list(report["per_class_iou"].values())), abs=1e-5)


def test_accuracy_equals_that_of_torch(tmp_path: Path) -> None:
    data, test = draw_noisy(tmp_path / "train", each=4), draw_noisy(tmp_path / "test", each=40, seed=1)
    measured = train_cnn(Folders((data,), (), (test,)), tmp_path / "run", replace(CNN[Arch.SEED], epochs=1))
    export_bundle(tmp_path / "run", tmp_path / "bundle.onnx")
    report = evaluate(Session(tmp_path / "bundle.onnx", device="cpu"), [test])
    for figure in ("accuracy", "images", "top5", "macro_f1", "per_class"):
        assert report[figure] == measured[figure]


def test_mean_iou_equals_that_of_torch(tmp_path: Path) -> None:
    data, test = draw_shapes(tmp_path / "train", 8), draw_shapes(tmp_path / "test", 20, seed=1)
    hyper = replace(SEGMENT, size=64, epochs=2, batch_size=4)
    measured = train_segment(Folders((data,), (), (test,)), tmp_path / "run", hyper)
    export_bundle(tmp_path / "run", tmp_path / "bundle.onnx")
    report = evaluate(Session(tmp_path / "bundle.onnx", device="cpu"), [test])
    assert report["mean_iou"] == pytest.approx(measured["mean_iou"], abs=1e-3)
    assert report["pixel_accuracy"] == pytest.approx(measured["pixel_accuracy"], abs=1e-3)


def test_the_command_prints_json_alone(tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colours.onnx")), "--data", str(write_colours(tmp_path / "data"))]
    done = CliRunner().invoke(command, [*words, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accuracy"] == 1.0


def test_the_command_prints_tables(tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colours.onnx")), "--data", str(write_colours(tmp_path / "data"))]
    done = CliRunner().invoke(command, [*words, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.stdout
    assert "1.0000" in done.stdout


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colours.onnx")), "--data", str(tmp_path), "--device", "gpu"]
    error = CliRunner().invoke(command, words).exception
    assert isinstance(error, InputError | ConfigurationError)
    assert "must be auto, cpu or cuda" in str(error)


def test_evaluation_imports_no_torch() -> None:
    words = "import sys, export.evaluate, training.progress; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0

"""`tagmill evaluate`: the figures of a bundle on labeled images, with ONNX Runtime alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.bundles import COLORS, write_classifier, write_segmenter, write_tagger
from support.checkpoints import short
from support.image_fixtures import draw_noisy, draw_shapes, write_image

from export.build import export_bundle
from export.cli.evaluate import evaluate as command
from export.evaluate import evaluate
from tagmill.bundles.metadata import sha256_of
from tagmill.device import Device
from tagmill.errors import ConfigurationError, ExitCode, InputError, NothingToDo
from tagmill.machine import usable_cores
from tagmill.settings import load_settings
from tagmill.tasks.base import Prediction, Task
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT
from training.annotations.folders import Folders
from training.models.classifiers import Arch
from training.models.segmenters import SegmentArch
from training.recipes.cnn import DEFAULTS as CNN
from training.recipes.cnn import train_cnn
from training.recipes.segment import DEFAULTS as SEGMENT_DEFAULTS
from training.recipes.segment import train_segment
from worker.inference.openvino_backend import PROVIDER as OPENVINO
from worker.inference.session import Session
from worker.inference.session_loader import tuned_settings_store
from worker.inference.tuned_settings import TunedSettings, this_machine


def write_colors(folder: Path, wrong: int = 0) -> Path:
    """Write ten images of each color; `wrong` of the green ones are in the folder of the red ones."""
    for color in COLORS:
        for number in range(10):
            write_image(folder / color / f"{number}.png", color, shade=number)
    for number in range(wrong):
        (folder / "green" / f"{number}.png").replace(folder / "red" / f"wrong-{number}.png")
    return folder


def write_masked(folder: Path) -> Path:
    """Write an image that is half red and half white, with a mask in which a quarter is red."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    image = Image.new("RGB", (64, 64), "white")
    image.paste((230, 20, 20), (0, 0, 32, 64))
    image.save(folder / "images" / "one.png")
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, :16] = 1
    Image.fromarray(mask).save(folder / "masks" / "one.png")
    (folder / "labels.json").write_text(json.dumps(["background", *COLORS]))
    return folder


@pytest.fixture
def classifier(tmp_path: Path) -> Session:
    return Session(write_classifier(tmp_path / "colors.onnx"), device="cpu")


def test_accuracy_is_counted_by_category(classifier: Session, tmp_path: Path) -> None:
    report = evaluate(classifier, [write_colors(tmp_path / "data", wrong=6)])
    assert report["accuracy"] == 0.8
    assert report["images"] == 30
    assert report["per_class"] == {"red": 0.625, "green": 1.0, "blue": 1.0}
    assert report["top5"] == 1.0
    assert report["macro_f1"] == pytest.approx((10 / 13 + 4 / 7 + 1) / 3, abs=1e-5)
    assert report["failures"] == []
    assert report["images_per_second"] > 0


def test_several_folders_are_measured_together(classifier: Session, tmp_path: Path) -> None:
    report = evaluate(classifier, [write_colors(tmp_path / "one", wrong=6), write_colors(tmp_path / "two")])
    assert report["images"] == 60
    assert report["accuracy"] == 0.9


def test_an_unreadable_image_is_a_failure_and_the_rest_is_measured(classifier: Session, tmp_path: Path) -> None:
    data = write_colors(tmp_path / "data")
    (data / "red" / "3.png").write_bytes(b"<html>")
    report = evaluate(classifier, [data])
    assert report["images"] == 29
    assert report["accuracy"] == 1.0
    assert [Path(failure["path"]).name for failure in report["failures"]] == ["3.png"]
    assert "not_an_image" in report["failures"][0]["reason"]


def test_if_no_image_can_be_read_there_is_nothing_to_do(classifier: Session, tmp_path: Path) -> None:
    (tmp_path / "data" / "red").mkdir(parents=True)
    (tmp_path / "data" / "red" / "one.jpg").write_bytes(b"")
    with pytest.raises(NothingToDo, match="none of 1 images could be read"):
        evaluate(classifier, [tmp_path / "data"])


def test_a_category_that_the_bundle_does_not_have_is_named(classifier: Session, tmp_path: Path) -> None:
    write_image(tmp_path / "data" / "violet" / "one.png", "red")
    with pytest.raises(InputError, match=r"category violet is not a label of colors\.onnx, which has: red"):
        evaluate(classifier, [tmp_path / "data"])


def test_a_table_of_labels_is_measured_like_folders(classifier: Session, tmp_path: Path) -> None:
    data = write_colors(tmp_path / "data", wrong=6)
    rows = [f"{path.relative_to(data)},{path.parent.name}" for path in sorted(data.rglob("*.png"))]
    (data / "labels.csv").write_text("\n".join(["uri,label", *rows]))
    by_table, by_folder = evaluate(classifier, [data / "labels.csv"]), evaluate(classifier, [data])
    for figure in ("accuracy", "images", "macro_f1", "ece", "per_class"):
        assert by_table[figure] == by_folder[figure]


def test_a_calibrated_bundle_is_measured_with_and_without_its_temperature(tmp_path: Path) -> None:
    data = write_colors(tmp_path / "data", wrong=6)
    plain = evaluate(Session(write_classifier(tmp_path / "one.onnx"), device="cpu"), [data])
    tempered = evaluate(Session(write_classifier(tmp_path / "two.onnx", temperature=8.0), device="cpu"), [data])
    assert "ece_uncalibrated" not in plain
    assert tempered["accuracy"] == plain["accuracy"] == 0.8
    assert tempered["ece_uncalibrated"] == pytest.approx(plain["ece"], abs=1e-4)
    assert plain["ece"] == pytest.approx(0.2, abs=1e-3)
    assert plain["ece_over_chance"] == pytest.approx(plain["ece"] - plain["ece_by_chance"], abs=1e-4)
    assert tempered["ece"] < plain["ece"]


def write_tags(folder: Path) -> Path:
    """Write a table of a red, a green, a yellow (red and green) and a black image (no label)."""
    folder.mkdir(parents=True)
    rows = []
    for name, rgb, labels in (
        ("red", (240, 0, 0), "red"),
        ("green", (0, 240, 0), "green"),
        ("yellow", (240, 200, 0), "red|green"),
        ("black", (0, 0, 0), ""),
    ):
        Image.new("RGB", (20, 20), rgb).save(folder / f"{name}.png")
        rows.append(f"{name}.png,{labels}")
    (folder / "tags.csv").write_text("\n".join(["uri,labels", *rows]))
    return folder / "tags.csv"


def test_a_multi_label_bundle_is_measured_by_average_precision(tmp_path: Path) -> None:
    table = write_tags(tmp_path / "data")
    report = evaluate(Session(write_tagger(tmp_path / "tags.onnx"), device="cpu"), [table])
    assert report["per_class_ap"] == {"red": 1.0, "green": 1.0}
    assert (report["mean_ap"], report["macro_f1"], report["images"]) == (1.0, 1.0, 4)
    tempered = evaluate(Session(write_tagger(tmp_path / "other.onnx", temperature=4.0), device="cpu"), [table])
    assert tempered["mean_ap"] == 1.0
    assert tempered["ece"] > report["ece"]
    assert tempered["ece_uncalibrated"] == pytest.approx(report["ece"], abs=1e-3)


def test_a_single_label_bundle_refuses_images_with_several_labels(classifier: Session, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tags\.csv:4: yellow\.png has 2 labels, red, green"):
        evaluate(classifier, [write_tags(tmp_path / "data")])


def test_a_coco_file_is_measured_by_its_shapes(tmp_path: Path) -> None:
    session = Session(write_segmenter(tmp_path / "masks.onnx"), device="cpu")
    folder = write_masked(tmp_path / "data")
    quarter = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 16, 0, 16, 64, 0, 64]]}
    content = {
        "images": [{"id": 1, "file_name": "one.png", "width": 64, "height": 64}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(COLORS, start=1)],
        "annotations": [quarter],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    by_shapes, by_masks = evaluate(session, [folder / "coco.json"]), evaluate(session, [folder])
    for figure in ("mean_iou", "pixel_accuracy", "per_class_iou", "images"):
        assert by_shapes[figure] == by_masks[figure]


def test_grouped_labels_are_measured_as_labels_of_the_bundle(tmp_path: Path) -> None:
    session = Session(write_segmenter(tmp_path / "masks.onnx"), device="cpu")
    plain = write_masked(tmp_path / "data")
    grouped = write_masked(tmp_path / "grouped")
    (grouped / "labels.json").write_text(json.dumps(["null", "crimson", "lime", "sky"]))
    groups = {"blue": ["sky"], "background": ["null"], "red": ["crimson"], "green": ["lime"]}
    (grouped / "groups.json").write_text(json.dumps(groups))
    assert evaluate(session, [grouped])["per_class_iou"] == evaluate(session, [plain])["per_class_iou"]


def test_the_mean_iou_of_masks_is_known_by_arithmetic(tmp_path: Path) -> None:
    session = Session(write_segmenter(tmp_path / "masks.onnx"), device="cpu")
    report = evaluate(session, [write_masked(tmp_path / "data")])
    assert report["pixel_accuracy"] == pytest.approx(0.75, abs=0.03)
    assert report["per_class_iou"]["red"] == pytest.approx(0.5, abs=0.04)
    assert report["per_class_iou"]["background"] == pytest.approx(2 / 3, abs=0.04)
    assert set(report["per_class_iou"]) == {"background", "red"}
    assert report["mean_iou"] == pytest.approx(np.mean(list(report["per_class_iou"].values())), abs=1e-5)


def test_a_mask_of_another_size_and_a_missing_mask_are_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_masked(tmp_path / "data")
    for name, size in (("wide", (64, 32)), ("alone", None)):
        (data / "images" / f"{name}.png").write_bytes((data / "images" / "one.png").read_bytes())
        if size:
            Image.new("L", size).save(data / "masks" / f"{name}.png")
    report = evaluate(Session(write_segmenter(tmp_path / "masks.onnx"), device="cpu"), [data])
    assert report["images"] == 1
    (failure,) = report["failures"]
    assert failure["reason"] == "corrupt: its mask has 64x32 pixels, the image 64x64"
    assert "1 images without a mask are left out" in capfd.readouterr().err


def test_accuracy_equals_that_of_torch(tmp_path: Path) -> None:
    data, test = draw_noisy(tmp_path / "train", each=4), draw_noisy(tmp_path / "test", each=40, seed=1)
    measured = train_cnn(
        Folders((data,), (), (test,)), tmp_path / "run", Arch.SIMPLE_CNN, short(CNN[Arch.SIMPLE_CNN], epochs=1)
    )
    export_bundle(tmp_path / "run", tmp_path / "bundle.onnx")
    report = evaluate(Session(tmp_path / "bundle.onnx", device="cpu"), [test])
    for figure in ("accuracy", "images", "top5", "macro_f1", "per_class"):
        assert report[figure] == measured[figure]


def test_mean_iou_equals_that_of_torch(tmp_path: Path) -> None:
    data, test = draw_shapes(tmp_path / "train", 8), draw_shapes(tmp_path / "test", 20, seed=1)
    hyper = short(SEGMENT_DEFAULTS, size=64, epochs=2, batch_size=4)
    measured = train_segment(Folders((data,), (), (test,)), tmp_path / "run", SegmentArch.UNET, hyper)
    export_bundle(tmp_path / "run", tmp_path / "bundle.onnx")
    report = evaluate(Session(tmp_path / "bundle.onnx", device="cpu"), [test])
    assert report["mean_iou"] == pytest.approx(measured["mean_iou"], abs=1e-3)
    assert report["pixel_accuracy"] == pytest.approx(measured["pixel_accuracy"], abs=1e-3)


def test_the_command_prints_only_json(tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colors.onnx")), "--data", str(write_colors(tmp_path / "data"))]
    done = CliRunner().invoke(command, [*words, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accuracy"] == 1.0


def test_the_command_prints_a_multi_label_bundle(tmp_path: Path) -> None:
    words = [str(write_tagger(tmp_path / "tags.onnx", temperature=2.0)), "--data", str(write_tags(tmp_path / "data"))]
    done = CliRunner().invoke(command, [*words, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    for word in ("mean ap", "average precision", "ece uncalibrated"):
        assert word in done.stdout


def test_the_name_of_a_data_set_means_its_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tagmill" / "cifar10" / "train").mkdir(parents=True)
    write_colors(tmp_path / "tagmill" / "cifar10" / "test")
    words = [str(write_classifier(tmp_path / "colors.onnx")), "--data", "cifar10", "--device", "cpu", "--json"]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 30


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (CLASSIFY, {"confusion", "confused_pairs", "per_class", "predictions", "reliability"}),
        (MULTILABEL, {"per_class", "predictions", "reliability"}),
        (SEGMENT, {"confusion", "masks", "per_class"}),
    ],
)
def test_predictions_are_drawn(tmp_path: Path, task: Task, names: set[str]) -> None:
    write = {CLASSIFY: write_classifier, MULTILABEL: write_tagger, SEGMENT: write_segmenter}[task]
    data = write_masked(tmp_path / "m") if task is SEGMENT else write_colors(tmp_path / "c", wrong=3)
    bundle, out = write(tmp_path / "bundle.onnx"), tmp_path / "deep" / "figures"
    done = CliRunner().invoke(command, [str(bundle), "--data", str(data), "--out", str(out), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert {path.stem for path in out.iterdir()} == names
    for path in out.iterdir():
        assert min(Image.open(path).size) > 150


def test_a_folder_that_cannot_be_made_is_an_error_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bundle, data = write_classifier(tmp_path / "colors.onnx"), write_colors(tmp_path / "images")
    with pytest.raises(InputError, match=r"file/x: .*name another folder with --out"):
        evaluate(Session(bundle, device="cpu"), [data], out=tmp_path / "file" / "x")


def test_drawing_without_matplotlib_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.evaluate.find_spec", lambda name: None)
    bundle, data = write_classifier(tmp_path / "colors.onnx"), write_colors(tmp_path / "images")
    with pytest.raises(ConfigurationError, match=r"pip install 'tagmill\[cpu,train\]'"):
        evaluate(Session(bundle, device="cpu"), [data], out=tmp_path / "figures")


def test_the_command_prints_tables(tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colors.onnx")), "--data", str(write_colors(tmp_path / "data"))]
    done = CliRunner().invoke(command, [*words, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.stdout
    assert "1.0000" in done.stdout


def session_of_the_command(bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Session:
    """Run the command and return the session that it measured with."""
    sessions: list[Session] = []

    def spy(session: Session, *arguments: Any, **named: Any) -> dict[str, Any]:
        sessions.append(session)
        return evaluate(session, *arguments, **named)

    monkeypatch.setattr("export.evaluate.evaluate", spy)
    done = CliRunner().invoke(command, [str(bundle), "--data", str(write_colors(folder)), "--json", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accuracy"] == 1.0
    (session,) = sessions
    return session


def test_the_command_measures_on_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    bundle = write_classifier(tmp_path / "colors.onnx")
    session = session_of_the_command(bundle, tmp_path / "data", monkeypatch, "--device", "openvino")
    assert session.provider == OPENVINO


def test_without_a_device_the_settings_choose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("TAGMILL_DEVICE", "openvino")
    bundle = write_classifier(tmp_path / "colors.onnx")
    assert session_of_the_command(bundle, tmp_path / "data", monkeypatch).provider == OPENVINO


@pytest.mark.parametrize("threads", [1, 2])
def test_the_settings_choose_threads_and_batch(threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_INFERENCE_THREADS", str(threads))
    monkeypatch.setenv("TAGMILL_INFERENCE_BATCH", "7")
    bundle = write_classifier(tmp_path / "colors.onnx")
    session = session_of_the_command(bundle, tmp_path / "data", monkeypatch, "--device", "cpu")
    assert session.threads == min(threads, usable_cores())
    assert session.best_batch == 7


def test_a_call_may_use_all_cores_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_CACHE_FOLDER", str(tmp_path / "cache"))
    bundle = write_classifier(tmp_path / "colors.onnx")
    session = session_of_the_command(bundle, tmp_path / "data", monkeypatch, "--device", "cpu")
    assert session.threads == usable_cores()


def test_what_bench_chose_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_CACHE_FOLDER", str(tmp_path / "cache"))
    bundle = write_classifier(tmp_path / "colors.onnx")
    store = tuned_settings_store(load_settings())
    store.write(sha256_of(bundle), this_machine(Device("cpu")), TunedSettings(5, 1, 1, 100.0))
    session = session_of_the_command(bundle, tmp_path / "data", monkeypatch, "--device", "cpu")
    assert (session.best_batch, session.threads) == (5, 1)


def test_calls_take_the_images_that_suit_the_session(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "colors.onnx"), device="cpu", batch=7)
    run, sizes = session.run, []

    def spy(images: np.ndarray) -> Prediction:
        sizes.append(len(images))
        return run(images)

    session.run = spy  # type: ignore[method-assign,assignment]
    assert evaluate(session, [write_colors(tmp_path / "data")])["accuracy"] == 1.0
    assert sizes == [7, 7, 7, 7, 2]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "openvino:0"])
def test_an_unknown_device_is_an_error_of_one_line(device: str, tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colors.onnx")), "--data", str(tmp_path), "--device", device]
    error = CliRunner().invoke(command, words).exception
    assert isinstance(error, ConfigurationError)
    assert error.exit_code == ExitCode.CONFIGURATION
    assert str(error) == "TAGMILL_DEVICE: must be auto, cpu, cuda:N, tensorrt:N or openvino"


def test_a_device_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    words = [str(write_classifier(tmp_path / "colors.onnx")), "--data", str(tmp_path), "--device", "tensorrt:7"]
    error = CliRunner().invoke(command, words).exception
    assert isinstance(error, ConfigurationError)
    assert "\n" not in str(error)


def test_evaluation_imports_no_torch() -> None:
    words = (
        "import sys, export.evaluate, tagmill.cli.terminal.progress; "
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0

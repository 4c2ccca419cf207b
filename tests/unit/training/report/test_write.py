"""The report in a run folder: figures, a page, a model card."""

import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.documents import commands_in, resolve
from support.labeled_sets import evaluation_of, labeled_set, summary_of

from tagmill import files
from tagmill.errors import ConfigurationError
from tagmill.files import write_bytes_atomic
from tagmill.pages.templating import duration, escape_markdown
from tagmill.tasks.base import Task, task_named, task_names
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.metrics import interval
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT
from tagmill.text import flatten
from training.annotations.folders import short_names
from training.annotations.types import Unreadable, Use
from training.data.arrays import Duplicate, LabeledSet
from training.report import write as write_module
from training.report.analysis import Analysis, Evaluation, analyze, mix_ups
from training.report.caveats import caveats
from training.report.charts import confused_labels, reliability_bins
from training.report.hardware import hardware
from training.report.image_grids import (
    draw_training_images,
    overlay_mask,
    prediction_title,
    true_labels,
    varied_positions,
)
from training.report.write import write_report

COLORS = ("blue", "green", "red")
TASKS = [task for name in task_names() if (task := task_named(name)).least_labels]
CLASSIFIER = {"training_images", "curves", "per_class", "confusion", "confused_pairs", "predictions", "reliability"}


def write(run: Path, task: Task, data: LabeledSet, epochs: int = 3, **values: Any) -> dict[str, Any]:
    run.mkdir()
    summary = summary_of(task, data, epochs) | values
    write_report(run, summary, data, evaluation_of(task, data))
    return summary


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Path]:
    """Return the run of a task with the labels of `COLORS`, which is written once."""

    @cache
    def once(task: Task) -> Path:
        run = tmp_path_factory.mktemp(task.name) / "run"
        write(run, task, labeled_set(task, COLORS))
        return run

    return once


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out of the reports of a test that looks at their text."""
    monkeypatch.setattr(write_module, "draw_figures", lambda *_: [])


def figures(run: Path) -> set[str]:
    for path in run.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert image.width > 150
    assert not list(run.glob(".*"))
    return {path.stem for path in run.glob("*.png")}


def analysis_of(task: Task, data: LabeledSet, evaluation: Evaluation | None = None) -> Analysis:
    return analyze(task, data.labels, data.splits, evaluation or evaluation_of(task, data), {})


def caveats_of(task: Task, data: LabeledSet, **values: Any) -> str:
    use = evaluation_of(task, data).use
    return " ".join(caveats(analysis_of(task, data), summary_of(task, data) | values, use))


class Images(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


def test_a_classifier_run_has_every_figure_the_page_the_card_and_the_metrics(tmp_path: Path) -> None:
    summary = write(tmp_path / "run", CLASSIFY, labeled_set(CLASSIFY, COLORS))
    assert figures(tmp_path / "run") == CLASSIFIER
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written == json.loads(json.dumps(summary)) | {"hardware": hardware("cpu")}
    assert (tmp_path / "run" / "MODEL_CARD.md").read_text().startswith("# Model card: run\n")
    assert len(Images((tmp_path / "run" / "report.html").read_text()).found) == len(CLASSIFIER)


def test_a_segmenter_run_shows_masks(tmp_path: Path) -> None:
    write(tmp_path / "run", SEGMENT, labeled_set(SEGMENT, ("background", "hat", "shoe")))
    assert figures(tmp_path / "run") == {"training_images", "curves", "per_class", "confusion", "masks"}
    assert "mean IoU" in (tmp_path / "run" / "report.html").read_text()


def test_a_multilabel_run_has_no_confusion_matrix(written: Callable[[Task], Path]) -> None:
    assert figures(written(MULTILABEL)) == CLASSIFIER - {"confusion", "confused_pairs"}
    assert "mean average precision" in (written(MULTILABEL) / "report.html").read_text()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_two_labels_three_images_and_no_epochs_are_enough(tmp_path: Path, task: Task) -> None:
    write(tmp_path / "run", task, labeled_set(task, ("no", "yes"), test=3), epochs=0)
    assert "curves" not in figures(tmp_path / "run")
    assert "curves" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_without_test_images_the_report_shows_validation_images_and_says_so(tmp_path: Path, task: Task) -> None:
    write(tmp_path / "run", task, labeled_set(task, COLORS, test=None))
    assert figures(tmp_path / "run")
    for name in ("report.html", "MODEL_CARD.md"):
        text = (tmp_path / "run" / name).read_text()
        assert "There were no test images" in text
        assert "6 validation images" in text


@pytest.mark.parametrize("task", [CLASSIFY, MULTILABEL])
def test_a_thousand_labels_fit(tmp_path: Path, task: Task) -> None:
    labels = tuple(f"category {number:04d}" for number in range(1000))
    write(tmp_path / "run", task, labeled_set(task, labels, test=60, train=1000))
    for name in figures(tmp_path / "run"):
        with Image.open(tmp_path / "run" / f"{name}.png") as image:
            assert max(image.size) < 1500
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(label in page for label in labels)


def test_predictions_without_an_error_have_no_mix_ups(tmp_path: Path) -> None:
    data = labeled_set(CLASSIFY, COLORS)
    (tmp_path / "run").mkdir()
    write_report(tmp_path / "run", summary_of(CLASSIFY, data), data, evaluation_of(CLASSIFY, data, wrong=0.0))
    assert figures(tmp_path / "run") == CLASSIFIER - {"confused_pairs"}


def test_a_recipe_without_raw_scores_has_one_reliability_curve(tmp_path: Path) -> None:
    data = labeled_set(CLASSIFY, COLORS)
    evaluation = replace(evaluation_of(CLASSIFY, data), uncalibrated=None)
    (tmp_path / "run").mkdir()
    write_report(tmp_path / "run", summary_of(CLASSIFY, data), data, evaluation)
    assert "reliability" in figures(tmp_path / "run")
    assert "before calibration" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_same_run_writes_the_same_bytes(written: Callable[[Task], Path], tmp_path: Path, task: Task) -> None:
    before, again = written(task), tmp_path / "run"
    write(again, task, labeled_set(task, COLORS))
    first, second = ({p.name: p.read_bytes() for p in run.iterdir()} for run in (before, again))
    first["MODEL_CARD.md"] = first["MODEL_CARD.md"].replace(bytes(before.parent), bytes(again.parent))
    assert first == second


def test_labels_with_special_characters_are_shown_unchanged(tmp_path: Path) -> None:
    odd = ("<script>alert(1)</script>", "$x^2$ | *bold*", "日本語", "a" * 300)
    write(tmp_path / "run", CLASSIFY, labeled_set(CLASSIFY, odd))
    page, card = ((tmp_path / "run" / name).read_text() for name in ("report.html", "MODEL_CARD.md"))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "| $x^2$ \\| \\*bold\\* |" in card
    assert "日本語" in page


def test_characters_that_no_font_has_are_mentioned_once_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="error"):
        write(tmp_path / "run", CLASSIFY, labeled_set(CLASSIFY, ("hat", "\U000e0000\uffff", "été")))
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("Figures show boxes in \U000e0000\uffff: no installed font has all letters.") == 1


@pytest.mark.usefixtures("no_figures")
def test_file_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    data = labeled_set(CLASSIFY, COLORS)
    odd = Path(os.fsdecode(b"/photos/tr\xe9in/br\xe9k\x1b[2J.jpg"))
    train = replace(data.train, unreadable=[Unreadable(odd, f"{odd.name}: damaged")])
    copies = (Duplicate(odd, Use.TRAIN, odd, Use.TEST),)
    data = replace(data, duplicates=copies, train=train)
    named = {"data": {"train": short_names([odd.parent]), "validation": [], "test": []}}
    run = tmp_path / os.fsdecode(b"r\xe9n")
    run.mkdir()
    write_report(run, summary_of(CLASSIFY, data) | named, data, evaluation_of(CLASSIFY, data))
    page = (run / "report.html").read_text()
    assert page.count(r"tr\udce9in/br\udce9k\x1b[2J.jpg") == 3
    assert r"r\udce9n" in (run / "MODEL_CARD.md").read_text()
    assert json.loads((run / "metrics.json").read_text())["data"]["train"] == [r"photos/tr\udce9in"]


def test_a_label_without_test_pixels_has_no_figure(tmp_path: Path) -> None:
    data = labeled_set(SEGMENT, ("background", "hat", "shoe"), train=3)
    assert data.test is not None
    data.test.targets[data.test.targets == 2] = 0
    data.train.targets[data.train.targets == 2] = 0
    write(tmp_path / "run", SEGMENT, data)
    evaluation = evaluation_of(SEGMENT, data)
    assert (evaluation.masks == 2).any()
    analysis = analysis_of(SEGMENT, data, evaluation)
    assert [one.label for one in analysis.weakest(3)] == ["hat", "background"]
    assert analysis.labels[2].figure is None
    text = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert "There is no test image of shoe, so that label was not measured." in text
    assert "No training mask has a pixel of shoe: the model cannot predict that." in text
    assert "NaN" not in (tmp_path / "run" / "metrics.json").read_text()


def fill_disk(folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files with that suffix be written to a full disk."""
    monkeypatch.setattr(files, "token_hex", lambda size: "known")
    (folder / f".tagmill-known.partial{suffix}").symlink_to("/dev/full")


def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")
    fill_disk(tmp_path, ".html", monkeypatch)
    with pytest.raises(ConfigurationError, match=r"report.html: No space left on device; make room"):
        write_bytes_atomic(page, b"longer than the old one")
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.usefixtures("no_figures")
def test_a_run_with_an_interrupted_report_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    fill_disk(tmp_path / "run", ".html", monkeypatch)
    data = labeled_set(CLASSIFY, COLORS)
    with pytest.raises(ConfigurationError):
        write_report(tmp_path / "run", summary_of(CLASSIFY, data), data, evaluation_of(CLASSIFY, data))
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.usefixtures("no_figures")
def test_the_page_lists_what_was_left_out(tmp_path: Path) -> None:
    data = labeled_set(CLASSIFY, COLORS)
    copies = tuple(
        Duplicate(Path(f"/photos/train/{n}.jpg"), Use.TRAIN, Path(f"/photos/test/{n}.jpg"), Use.TEST) for n in range(30)
    )
    train = replace(data.train, unreadable=[Unreadable(Path("/photos/train/broken.jpg"), "the file ends too early")])
    write(tmp_path / "run", CLASSIFY, replace(data, duplicates=copies, train=train))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "train/broken.jpg" in page
    assert "the file ends too early" in page
    assert "30 images have identical copies in another split" in page
    assert "Copies, the first 20" in page
    assert "/photos/train" not in page


@pytest.mark.usefixtures("no_figures")
def test_figures_by_source_are_in_the_page_and_the_card(tmp_path: Path) -> None:
    folders = {"drawn/test": {"accuracy": 0.982, "images": 1000}, "clothing/test": {"accuracy": 0.866, "images": 372}}
    write(tmp_path / "run", CLASSIFY, labeled_set(CLASSIFY, COLORS), folders=folders)
    assert "| clothing/test | 0.866 | 372 |" in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert "clothing/test" in (tmp_path / "run" / "report.html").read_text()


def test_every_figure_in_the_page_has_an_alternative_text(written: Callable[[Task], Path]) -> None:
    for image in Images((written(CLASSIFY) / "report.html").read_text()).found:
        assert len(image["alt"] or "") > 40
        assert (image["src"] or "").startswith("data:image/png;base64,")


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.usefixtures("no_figures")
def test_the_card_has_the_sections_of_the_paper_and_commands_that_exist(tmp_path: Path, task: Task) -> None:
    write(tmp_path / "my run", task, labeled_set(task, COLORS))
    card = (tmp_path / "my run" / "MODEL_CARD.md").read_text()
    assert re.findall(r"^## (.+)$", card, flags=re.M) == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
        "Export and serve",
    ]
    commands = commands_in(card)
    assert [words[0] for words in commands] == ["train", "export", "evaluate", "predict", "model"]
    assert commands[1] == ["export", str(tmp_path / "my run"), "-o", "my run.onnx"]
    for words in commands:
        command, rest = resolve(words)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= known


def test_the_weakest_labels_and_the_most_frequent_mix_up_are_named() -> None:
    data = labeled_set(CLASSIFY, COLORS, test=90)
    assert data.test is not None
    scores = np.eye(3, dtype=np.float32)[data.test.targets]
    wrong = np.flatnonzero(data.test.targets == 2)[:21]
    scores[wrong] = np.eye(3, dtype=np.float32)[0]
    analysis = analysis_of(CLASSIFY, data, Evaluation("test", data.test, scores, None, None))
    sentences = caveats(analysis, summary_of(CLASSIFY, data), "test")
    assert sentences[0] == "The weakest label by accuracy: red (0.30 on 30 images)."
    assert sentences[1] == "Most frequent mix-up: red predicted as blue (70% of its images)."


def test_labels_with_few_or_no_test_images_are_named() -> None:
    sentences = caveats_of(CLASSIFY, labeled_set(CLASSIFY, ("a", "b", "c", "d"), test=3))
    assert "There are fewer than 20 test images of a, b and c, so their figures are unreliable." in sentences
    assert "There is no test image of d, so that label was not measured." in sentences


def test_overfitting_is_mentioned() -> None:
    data = labeled_set(CLASSIFY, COLORS)
    history = [{"epoch": 3, "loss": 0.1, "accuracy": 0.99, "validation_accuracy": 0.7, "lr": 0.1}]
    assert "29 percentage points higher on the training images" in caveats_of(CLASSIFY, data, history=history)
    history[0]["validation_accuracy"] = 0.95
    assert "percentage points higher" not in caveats_of(CLASSIFY, data, history=history)


def test_uneven_training_images_are_mentioned() -> None:
    data = labeled_set(CLASSIFY, COLORS)
    targets = np.where(np.arange(40) < 37, 0, [0] * 37 + [1, 1, 2])
    uneven = replace(data, train=replace(data.train, targets=targets))
    assert "unevenly distributed: blue has 37, red has 1" in caveats_of(CLASSIFY, uneven)


def test_the_interval_is_wilsons() -> None:
    assert interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert interval(1.0, 3) == pytest.approx((0.4385, 1.0), abs=1e-4)


def test_mix_ups_are_ordered_by_their_number_of_images() -> None:
    table = np.array([[5, 1, 0], [3, 5, 2], [0, 0, 4]])
    pairs = [(pair.true, pair.predicted, pair.count, pair.total) for pair in mix_ups(table)]
    assert pairs == [(1, 0, 3, 10), (1, 2, 2, 10), (0, 1, 1, 6)]
    assert mix_ups(np.eye(3, dtype=np.int64)) == ()


def test_the_confusion_matrix_of_many_labels_shows_the_25_most_mixed_up() -> None:
    table = np.diag(np.full(200, 10))
    table[7, 150] = table[150, 90] = 4
    assert confused_labels(table) == [7, 90, 150]
    random = np.random.default_rng(0).integers(0, 5, (200, 200))
    assert len(confused_labels(random)) in {24, 25}
    assert confused_labels(table[:40, :40]) == list(range(40))


def test_a_reliability_bin_includes_its_upper_edge() -> None:
    counts, means, shares = reliability_bins(np.array([0.0, 1 / 15, 0.99, 1.0]), np.array([0, 1, 1, 1]))
    assert counts.tolist() == [2] + [0] * 12 + [0, 2]
    assert means[[0, 14]] == pytest.approx([1 / 30, 0.995])
    assert shares[[0, 14]] == pytest.approx([0.5, 1.0])


def test_images_are_counted_per_label_for_every_task() -> None:
    for task in TASKS:
        data = labeled_set(task, ("background", "hat"), train=10)
        expected = {CLASSIFY: [5, 5], MULTILABEL: [10, 10], SEGMENT: [10, 5]}[task]
        assert data.train.images_per_label(2).tolist() == expected


def test_the_training_images_in_the_figure_show_every_label() -> None:
    data = labeled_set(CLASSIFY, tuple(f"{n}" for n in range(20)), train=400)
    chosen = varied_positions(CLASSIFY, data.train, 25)
    assert len(set(chosen)) == 25
    assert set(data.train.targets[chosen].tolist()) == set(range(20))


def test_a_set_of_one_image_is_drawn(tmp_path: Path) -> None:
    draw_training_images(CLASSIFY, labeled_set(CLASSIFY, COLORS, train=1).train, COLORS, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 0


def test_the_title_of_a_wrong_prediction_includes_the_truth() -> None:
    data = labeled_set(CLASSIFY, COLORS, test=3)
    assert data.test is not None
    scores = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.0, 0.2, 0.8]], dtype=np.float32)
    evaluation = Evaluation("test", data.test, scores, None, None)
    assert [prediction_title(CLASSIFY, evaluation, n, COLORS) for n in range(3)] == [
        ("blue 90%", ""),
        ("blue 90%", "true: green"),
        ("red 80%", ""),
    ]


def test_the_labels_of_a_mask_are_listed_largest_first_without_background() -> None:
    data = labeled_set(SEGMENT, ("background", "hat", "shoe"), train=3)
    data.train.targets[1, 10:, :] = 2
    assert true_labels(SEGMENT, data.train, 0, data.labels) == ["background"]
    assert true_labels(SEGMENT, data.train, 1, data.labels) == ["hat", "shoe"]


def test_an_overlay_leaves_the_background_clear_and_ignored_pixels_gray() -> None:
    image = np.full((9, 9, 3), 100, dtype=np.uint8)
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[:, 6:] = 255
    tinted = overlay_mask(image, mask)
    assert tinted[4, 2] == pytest.approx(100 / 255)
    assert tinted[4, 8] == pytest.approx(100 / 255 * 0.4 + 0.5 * 0.6)


def test_durations_markdown_and_settings_are_formatted() -> None:
    assert [duration(value) for value in (3.2, 600, 9000)] == ["3 s", "10.0 min", "2.5 h"]
    assert escape_markdown("a|b\n*c* <d>") == r"a\|b \*c\* \<d\>"
    assert flatten({"loop": {"epochs": 3}, "lr": 0.1, "augmentation": None}) == [
        ("loop.epochs", "3"),
        ("lr", "0.1"),
        ("augmentation", "none"),
    ]


def test_the_hardware_names_cores_and_memory() -> None:
    assert re.fullmatch(r".+, \d+ cores, \d+ GiB of memory", hardware("cpu"))

"""What two versions of a model said of the same images, on both databases."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine
from support.compared import Compared, compared_run, two_versions

from producer.model_diff.compare import DiffOptions, compare_models
from producer.model_diff.page import write_page
from tagmill.cli.commands import cli
from tagmill.comparison import counts, images
from tagmill.comparison.agreement import agreement
from tagmill.errors import InputError, NothingToDo
from tagmill.settings import Settings
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT
from tagmill.where import Where

#: 6 hats of which B calls 2 shoes, 3 shoes that both know, and one that B has not seen
IMAGES = [
    *(Compared(f"hat-{n}", {"hat": 0.8}, {"hat": 0.9}, "Nike") for n in range(4)),
    *(Compared(f"odd-{n}", {"hat": 0.5 + n / 10}, {"shoe": 0.7}, "Acme") for n in range(2)),
    *(Compared(f"shoe-{n}", {"shoe": 0.95}, {"shoe": 0.95}, "Acme") for n in range(3)),
    Compared("new", {"bag": 0.5}, None),
]
TRUTH = {"odd-0": ("shoe",), "odd-1": ("hat",), "hat-0": ("hat",), "shoe-0": ("shoe",), "gone": ("hat",)}


@pytest.mark.parametrize("whole", [True, False])
def test_all_images_and_those_of_a_run_give_the_same_figures(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(counts, "RANGE", 4)
    monkeypatch.setattr(images, "PAGE", 4)
    pages: list[int] = []
    read = images.answers
    monkeypatch.setattr(images, "answers", lambda *of: pages.append(len(of[-1])) or read(*of))
    a, b = two_versions(engine)
    run = compared_run(engine, tmp_path / "shop", (a, b), IMAGES)
    found = compare_models(engine, a, b, DiffOptions(None if whole else run, truth=TRUTH, examples=True))
    assert (found.agreement.images, found.agreement.same) == (9, 7)
    assert agreement(engine, a, b) == found.agreement
    labels = [(one.name, one.agreement.images, one.agreement.same, one.given_b) for one in found.labels]
    assert labels == [("hat", 6, 4, 4), ("shoe", 3, 3, 5)]
    assert [(one.label_a, one.label_b, one.images) for one in found.confusions] == [("hat", "shoe", 2)]
    assert found.matrix == (("hat", "shoe"), ((4, 2), (0, 3)))
    scores = found.scores
    assert (scores.mean_a, scores.mean_b) == pytest.approx((7.15 / 9, 7.85 / 9))
    assert (scores.scores, sum(scores.bins_a), scores.bins_b[18]) == (9, 9, 4)
    assert found.truth is not None
    right = found.truth.figures
    assert (right.images, right.right_a, right.right_b, right.only_a, right.only_b) == (4, 3, 3, 1, 1)
    assert found.truth.missing == 1
    assert [one.image_key for one in found.examples] == ["odd-1", "odd-0"]  # the more certain one of A first
    assert found.examples[0].a == (("hat", 0.6),)
    assert found.examples[0].truth == ("hat",)
    assert pages == ([] if whole else [4, 4, 1])


def test_entries_of_a_run_are_chosen_and_grouped_by_a_column(engine: Engine, tmp_path: Path) -> None:
    a, b = two_versions(engine)
    run = compared_run(engine, tmp_path / "shop", (a, b), IMAGES)
    found = compare_models(engine, a, b, DiffOptions(run, by="brand"))
    groups = [(one.name, one.agreement.images, one.agreement.same) for one in found.columns]
    assert groups == [("Acme", 5, 3), ("Nike", 4, 4)]
    chosen = compare_models(engine, a, b, DiffOptions(run, where=Where.parse(["brand=Acme"])))
    assert chosen.agreement.images == 5
    with pytest.raises(InputError, match="--by color: no chosen entry"):
        compare_models(engine, a, b, DiffOptions(run, by="color"))
    with pytest.raises(InputError, match="name their run with --run"):
        compare_models(engine, a, b, DiffOptions(by="brand"))
    with pytest.raises(NothingToDo, match=f"among the chosen entries of run {run}"):
        compare_models(engine, a, b, DiffOptions(run, where=Where.parse(["brand=None"])))


@pytest.mark.parametrize("task", [SEGMENT, MULTILABEL])
def test_models_of_several_labels_are_compared_by_the_set_of_labels(
    engine: Engine, tmp_path: Path, task: object
) -> None:
    a, b = two_versions(engine, task)  # type: ignore[arg-type]
    images = [
        Compared("same", {"hat": 0.8, "bag": 0.7}, {"bag": 0.9, "hat": 0.6}),
        Compared("fewer", {"hat": 0.8, "bag": 0.7}, {"hat": 0.8}),
        Compared("nothing", {}, {}),
    ]
    compared_run(engine, tmp_path / "shop", (a, b), images)
    found = compare_models(engine, a, b, DiffOptions(examples=True))
    assert (found.agreement.images, found.agreement.same) == (3, 2)
    labels = {one.name: (one.agreement.images, one.agreement.same, one.given_b) for one in found.labels}
    assert labels == {"hat": (2, 2, 2), "bag": (2, 1, 1)}
    assert (found.confusions, found.matrix) == ((), None)
    assert found.scores.difference == pytest.approx(0.0)
    assert [one.image_key for one in found.examples] == ["fewer"]


def test_what_cannot_be_compared_is_said(engine: Engine) -> None:
    a, b = two_versions(engine)
    other, _ = two_versions(engine, SEGMENT, "parts")
    for pair, said in (((a, a), "is compared with itself"), ((a, other), "of the task classify, parts@1 of segment")):
        with pytest.raises(InputError, match=said):
            compare_models(engine, *pair, DiffOptions())
    with pytest.raises(NothingToDo, match="no image has a result of both kinds@1 and kinds@2"):
        compare_models(engine, a, b, DiffOptions())


def test_the_page_holds_the_pictures_and_escapes_what_it_shows(engine: Engine, tmp_path: Path) -> None:
    a, b = two_versions(engine)
    images = [*IMAGES, Compared("<script>", {"dress": 0.9}, {"bag": 0.8}), Compared("gone", {"dress": 1.0}, {"hat": 1})]
    run = compared_run(engine, tmp_path / "shop", (a, b), images)
    (tmp_path / "shop" / f"{len(images) - 1}.png").unlink()
    found = compare_models(engine, a, b, DiffOptions(run, by="brand", truth=TRUTH, examples=True))
    written = write_page(found, tmp_path / "diff.html", Settings())
    assert (written.examples, written.pictures) == (4, 3)
    page = (tmp_path / "diff.html").read_text()
    assert page.count("data:image/webp;base64,") == 3
    assert "no file at its path on this machine" in page
    assert "<script" not in page


def test_the_command_prints_tables_json_and_a_page(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two_versions(engine)
    compared_run(engine, tmp_path / "shop", (a, b), IMAGES)
    monkeypatch.setenv("TAGMILL_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    run = CliRunner().invoke
    done = run(cli, ["model", "diff", "kinds@1", "kinds@2", "-o", str(tmp_path / "d.html")], catch_exceptions=False)
    assert "agreement, by the best label: 77.8% (45.3% to 93.7%)" in done.output
    assert f"{tmp_path / 'd.html'}: 2 pictures" in done.output
    told = run(cli, ["model", "diff", "kinds@1", "kinds@2", "--json"], catch_exceptions=False)
    assert '"confusions": [{"label_a": "hat", "label_b": "shoe", "images": 2' in told.output

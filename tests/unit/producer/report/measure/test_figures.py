"""The figures of a run, added image by image."""

import pytest

from producer.output.image_result import ImageResult
from producer.report.measure.figures import BINS, RunFigures, bin_of
from tagmill.records import Mask
from tagmill.registry.models import Model

SPEC = {"thresholds": {"hat": 0.8}, "background": "ground"}
KINDS = Model(1, "1" * 64, "kinds", 1, "classify", ("hat", "shoe"), SPEC, {}, "candidate")
COLORS = Model(2, "2" * 64, "colors", 1, "multilabel", ("red", "blue", "green"), {}, {}, "candidate")
PARTS = Model(3, "3" * 64, "parts", 1, "segment", ("ground", "sole", "lace"), SPEC, {}, "candidate")
NAMES = [("kinds", KINDS), ("colors", COLORS), ("parts", PARTS)]
MASK = Mask("sole", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9)


def image(key: str, kind: str, score: float) -> ImageResult:
    labels = {"kinds": [(kind, score), ("hat", 0.1)], "colors": [("red", 0.9), ("blue", 0.5), ("green", 0.2)]}
    return ImageResult(0, key, "/a", "tagged", None, None, "4" * 64, 8, 8, labels, {"parts": [MASK]})


@pytest.fixture
def figures() -> RunFigures:
    found = RunFigures(NAMES, {"a": ("hat",), "b": ("hat",), "c": ("red", "blue")})
    rights = [found.add(image("a", "hat", 0.85)), found.add(image("b", "shoe", 0.6)), found.add(image("c", "hat", 0.7))]
    assert rights == [[True, False, None], [False, False, None], [False, True, None]]
    return found


def test_a_label_counts_as_the_task_gives_it(figures: RunFigures) -> None:
    kinds, colors, parts = figures.models
    assert [(label, found.images, found.above) for label, found in kinds.by_label] == [("hat", 2, 1), ("shoe", 1, 0)]
    assert [(label, found.images) for label, found in colors.by_label] == [("blue", 3), ("red", 3)]
    assert [(label, found.images) for label, found in parts.by_label] == [("sole", 3)]
    assert (colors.never_given, parts.never_given) == (["green"], ["lace"])
    assert (sum(kinds.histogram), kinds.above) == (3, 1)


def test_the_truth_of_one_model_is_not_held_against_another() -> None:
    figures = RunFigures(NAMES, {"a": ("hat",)})
    assert figures.add(image("a", "hat", 0.9)) == [True, None, None]
    assert [found.judged for found in figures.models] == [True, False, False]


def test_failures_are_counted_with_a_few_examples_and_no_secrets() -> None:
    figures = RunFigures(NAMES, {})
    for number in range(9):
        uri = f"https://me:pw@shop/{number}.jpg?sig=abc"
        figures.add(ImageResult(number, str(number), uri, "failed", "empty", None, None, None, None))
    assert (figures.failures, figures.statuses) == ({"empty": 9}, {"failed": 9})
    assert [found.uri for found in figures.examples["empty"]][:1] == ["https://***@shop/0.jpg?sig=***"]
    assert len(figures.examples["empty"]) == 5


@pytest.mark.parametrize(("score", "number"), [(0.0, 0), (1.0, BINS - 1), (0.5, BINS // 2), (float("nan"), 0)])
def test_every_score_has_a_bin(score: float, number: int) -> None:
    assert bin_of(score) == number

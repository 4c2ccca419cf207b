"""When accuracy is no lower than that of the version in production."""

import pytest

from export.promotion.accuracy import Measured, judge
from export.promotion.gate import GateStatus


def measured(images: int, wrong: int, first: int = 0) -> Measured:
    right = {str(number): not first <= number < first + wrong for number in range(images)}
    return Measured(1 - wrong / images, images, right)


@pytest.mark.parametrize(
    ("images", "wrong_before", "wrong_now", "status", "said"),
    [
        (50, 5, 5, GateStatus.PASSED, "+0.0 points"),
        (50, 5, 0, GateStatus.PASSED, "+10.0 points"),
        (50, 5, 6, GateStatus.FAILED, "more than 1 lower"),  # one of few images is more than a point
        (500, 50, 54, GateStatus.PASSED, "-0.8 points (-1.7 to +0.1)"),  # chance cannot be told from a loss
        (10_000, 1_000, 1_090, GateStatus.FAILED, "lower with 95% certainty"),
    ],
)
def test_a_loss_fails_if_it_is_large_or_certain(
    images: int, wrong_before: int, wrong_now: int, status: GateStatus, said: str
) -> None:
    gate = judge("accuracy", measured(images, wrong_now), measured(images, wrong_before), {})
    assert (gate.status, said in gate.detail) == (status, True), gate.detail


def test_without_pairs_the_figures_alone_are_compared() -> None:
    for before, status in ((0.805, GateStatus.PASSED), (0.815, GateStatus.FAILED)):
        gate = judge("mean iou", Measured(0.8, 10, {}), Measured(before, 10, {}), {})
        assert gate.status is status
        assert "interval" not in gate.values

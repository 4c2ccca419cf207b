"""Whether one of two models is right more often on the same images."""

import pytest

from tagmill.comparison.paired import Paired, paired


def test_the_difference_has_the_interval_of_agresti_and_min() -> None:
    # 10 of 100 images are right by A alone, 30 by B alone: (30.5 - 10.5) / 102, with 1.96 standard errors of
    # sqrt(41 - 20**2 / 102) / 102
    found = Paired(100, 50, 70, 10, 30)
    assert found.difference == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.0791, 0.3131), abs=1e-4)


def test_chance_is_that_of_the_exact_test_of_mcnemar() -> None:
    assert Paired(100, 50, 70, 10, 30).chance == pytest.approx(0.002222, rel=1e-3)  # scipy.stats.binomtest(10, 40)
    assert Paired(100, 50, 50, 5, 5).chance == 1.0
    assert Paired(10_000, 5_000, 5_040, 1_000, 1_040).chance == pytest.approx(0.3879, rel=1e-2)  # with correction


def test_equal_models_differ_by_chance_alone() -> None:
    found = paired([(True, True), (False, False)])
    assert (found.images, found.right_a, found.right_b) == (2, 1, 1)
    assert (found.difference, found.chance) == (0.0, 1.0)
    low, high = found.interval
    assert low == -high

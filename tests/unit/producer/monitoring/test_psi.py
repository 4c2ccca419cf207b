"""The population stability index, by arithmetic and by simulation, and what chance makes of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from producer.monitoring.psi import LEAST_EXPECTED, chi_squared_quantile, pooled, psi

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 500), min_size=1)


def test_two_bins_are_compared_by_arithmetic() -> None:
    found = psi({"hat": 600, "shoe": 400}, {"hat": 500, "shoe": 500})
    assert found is not None
    assert found.value == pytest.approx(0.1 * math.log(0.6 / 0.5) - 0.1 * math.log(0.4 / 0.5))
    assert found.bins == 2
    assert found.chance == pytest.approx(2 / 1000 * chi2.ppf(0.999, 1), rel=0.04)


def test_an_empty_bin_counts_as_half_an_image() -> None:
    found = psi({"hat": 1000}, {"hat": 900, "shoe": 100})
    assert found is not None
    expected = 0.1 * math.log(1 / 0.9) + (0.1 - 0.0005) * math.log(0.1 / 0.0005)
    assert found.value == pytest.approx(expected)


def test_labels_that_are_rare_in_both_runs_are_one_bin() -> None:
    rare = {f"label {number}": 3 for number in range(20)}
    now, before = {"hat": 940, **rare}, {"hat": 940, **{f"other {name}": count for name, count in rare.items()}}
    assert pooled(now, before) == [(60, 60), (940, 940)]
    found = psi(now, before)
    assert found is not None
    assert found.value == 0


def test_a_new_label_of_many_images_has_a_bin_of_its_own() -> None:
    expected = 2 * int(LEAST_EXPECTED)
    assert (expected, 0) in pooled({"hat": 990, "new": expected}, {"hat": 1000 + expected - 10})


@given(COUNTS, COUNTS)
def test_it_is_never_negative_is_zero_for_equal_shares_and_does_not_depend_on_the_order(
    now: dict[str, int], before: dict[str, int]
) -> None:
    found, swapped = psi(now, before), psi(before, now)
    if not sum(now.values()) or not sum(before.values()):
        assert found is swapped is None
        return
    assert found is not None
    assert swapped is not None
    assert found.value >= 0
    assert found.value == pytest.approx(swapped.value)
    assert found.chance == swapped.chance
    same = psi(now, now)
    assert same is not None
    assert same.value == 0


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 39, 200])
def test_the_quantile_is_that_of_chi_squared(degrees: int) -> None:
    exact = chi2.ppf(0.999, degrees)
    assert chi_squared_quantile(0.999, degrees) == pytest.approx(exact, rel=0.04 if degrees < 3 else 0.02)
    assert chi_squared_quantile(0.999, 0) == 0


def test_chance_alone_exceeds_what_is_said_about_once_in_a_thousand() -> None:
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, 13)
    now, before = (random.multinomial(n, shares / shares.sum(), 20_000) for n in (3000, 1500))
    above = 0
    for a, b in zip(now.tolist(), before.tolist(), strict=True):
        found = psi(dict(enumerate(a)), dict(enumerate(b)))
        assert found is not None
        above += found.value > found.chance
    # 20 are expected; a Poisson number is outside of 6 to 40 about once in 10,000 times.
    assert 6 <= above <= 40

"""The share of a shadow or a canary: as large as asked for, the same everywhere, and a part of each larger one."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.registry.rollout.share import point_of

PRODUCTS = 20_000
#: the point of the product sku-1 for the model shirts: if it changed, workers of two versions would disagree
KNOWN = 0.5133951317763392


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["shirts", "hats"])
def test_a_share_is_as_large_as_asked_for(name: str, share: float) -> None:
    chosen = sum(point_of(name, f"sku-{number}") < share for number in range(PRODUCTS))
    deviation = (share * (1 - share) / PRODUCTS) ** 0.5
    assert abs(chosen / PRODUCTS - share) < 4 * deviation


@given(name=st.text(), product=st.text(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_product_has_one_point_so_a_share_is_part_of_each_larger_one(
    name: str, product: str, shares: tuple[float, float]
) -> None:
    point = point_of(name, product)
    assert 0 <= point < 1
    assert point == point_of(name, product)
    smaller, larger = sorted(shares)
    assert (point < larger) or not (point < smaller)


def test_the_point_is_the_same_in_another_process_and_in_a_later_version() -> None:
    script = "from tagmill.registry.rollout.share import point_of; print(repr(point_of('shirts', 'sku-1')))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(other) == point_of("shirts", "sku-1") == KNOWN


def test_two_models_are_tried_on_different_products() -> None:
    both = sum(max(point_of("shirts", str(number)), point_of("hats", str(number))) < 0.1 for number in range(PRODUCTS))
    assert 0.007 < both / PRODUCTS < 0.013

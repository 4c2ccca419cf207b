"""Near hashes are found without comparing all with all, and none is missed."""

import numpy as np
import pytest

from tagmill.search.duplicates import hashes as hashes_module
from tagmill.search.duplicates.hashes import REACH, near_pairs


@pytest.mark.parametrize("chunk", [64, 4_000_000])
def test_all_pairs_within_reach_are_found(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes_module, "CHUNK", chunk)
    random = np.random.default_rng(0)
    originals = random.integers(0, 2**64, 150, dtype=np.uint64)
    copies = originals.copy()
    for place in range(len(copies)):
        for bit in random.choice(64, random.integers(0, 10), replace=False):
            copies[place] ^= np.uint64(1 << int(bit))
    one, other = np.unique(np.concatenate([originals, copies])), np.unique(copies)
    found = {pair for first, second, _ in near_pairs(one, other) for pair in zip(first, second, strict=True)}
    expected = set(zip(*np.nonzero(np.bitwise_count(one[:, None] ^ other[None]) <= REACH), strict=True))
    assert found == expected
    assert len(found) > 150


def test_no_hashes_have_no_pairs() -> None:
    none = np.zeros(0, np.uint64)
    assert list(near_pairs(none, none)) == []

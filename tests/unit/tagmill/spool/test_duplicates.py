"""Texts that come more than once, found in parts of a temporary file."""

import tempfile
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.errors import ConfigurationError
from tagmill.spool import duplicates, temporary_file
from tagmill.spool.duplicates import Duplicates


def found(texts: Sequence[str], block: int) -> dict[int, int]:
    """Return the number of each text that came before, with that of the first; `block` are added at a time."""
    with closing(Duplicates()) as seen:
        for start in range(0, len(texts), block):
            seen.add(texts[start : start + block])
        return {int(at): int(first) for repeats in seen.find() for at, first in zip(*repeats, strict=True)}


def expected(texts: Sequence[str]) -> dict[int, int]:
    first: dict[str, int] = {}
    return {at: first[text] for at, text in enumerate(texts) if first.setdefault(text, at) != at}


@given(st.lists(st.sampled_from(["", "a", "b", "b ", "é", "e\u0301", "\udce9", "한"])), st.integers(1, 5))
def test_every_text_that_came_before_is_found_with_the_first(texts: list[str], block: int) -> None:
    assert found(texts, block) == expected(texts)


@pytest.mark.parametrize("portion", [50, 2**15])
def test_texts_are_found_on_the_disk_and_over_several_portions(monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    monkeypatch.setattr(temporary_file, "KEPT_BYTES", 1000)
    monkeypatch.setattr(duplicates, "PORTION", portion)
    # One text a hundred times among many different ones, and many that come twice.
    texts = [f"key-{number % 7000}" if number % 100 else "placeholder" for number in range(10_000)]
    assert found(texts, 1000) == expected(texts)


def test_different_texts_with_the_same_hash_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "hash", lambda text: 7, raising=False)
    texts = [f"key-{number % 300}" for number in range(500)]
    assert found(texts, 100) == expected(texts)


def test_a_full_disk_is_one_line_that_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(temporary_file, "KEPT_BYTES", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConfigurationError, match=r"temporary files, .*/gone, cannot be written to: No such file") as it:
        found(["a", "b"], 1)
    assert "\n" not in str(it.value)


def test_memory_does_not_grow_with_the_number_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "PORTION", 2**12)
    monkeypatch.setattr(temporary_file, "KEPT_BYTES", 2**16)
    peaks = []
    for count in (40_000, 200_000):
        tracemalloc.start()
        with closing(Duplicates()) as seen:
            for start in range(0, count, 4000):
                seen.add([f"key-{at}" if at % 3 else "placeholder" for at in range(start, start + 4000)])
            assert sum(len(repeats.numbers) for repeats in seen.find()) == count // 3
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_many_records_keep_their_order_in_a_part() -> None:
    with closing(Duplicates()) as seen:
        for start in range(0, 3000, 1000):
            seen.add([f"{number}" for number in range(start, start + 1000)])
        parts = [np.concatenate([*seen._records.read(part)])["number"] for part in range(256)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))
    assert all((np.diff(part.astype(int)) > 0).all() for part in parts)

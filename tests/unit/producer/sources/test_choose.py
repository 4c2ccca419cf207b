"""The first entries, and samples of entries."""

from pathlib import Path

import pytest

from producer.sources.base import Problem
from producer.sources.choose import first_entries, sample_entries
from producer.sources.open import check, open_sources
from producer.sources.options import ReadOptions
from tagmill.records import Entry

ENTRIES = [Entry(str(number), f"/{number}") for number in range(1000)]


def test_the_first_entries_are_taken_and_the_rest_is_not_read(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(b"id,uri\na,/a\nb,/b\nc,s3:\xff\n")
    assert [entry.image_key for entry in open_sources([str(source)], options=ReadOptions(limit=2))] == ["a", "b"]
    assert (check([str(source)], ReadOptions(limit=2)).entries, check([str(source)]).problem_count) == (2, 1)


def test_problems_do_not_count_as_entries() -> None:
    problem = Problem("a:1", "is wrong")
    assert list(first_entries(iter([problem, *ENTRIES]), 2)) == [problem, *ENTRIES[:2]]
    assert list(sample_entries(iter([problem, *ENTRIES[:2]]), 5, 0)) == [problem, *ENTRIES[:2]]


def test_a_sample_is_in_order_and_the_same_for_the_same_seed() -> None:
    chosen = list(sample_entries(iter(ENTRIES), 50, 7))
    assert chosen == list(sample_entries(iter(ENTRIES), 50, 7))
    assert chosen != list(sample_entries(iter(ENTRIES), 50, 8))
    assert len(set(chosen)) == 50
    assert chosen == sorted(chosen, key=lambda entry: int(entry.image_key))


def test_every_entry_is_as_likely_in_a_sample() -> None:
    counts = [0] * 20
    for seed in range(2000):
        for entry in sample_entries(iter(ENTRIES[:20]), 5, seed):
            assert isinstance(entry, Entry)
            counts[int(entry.image_key)] += 1
    # 500 is expected of each, with a standard deviation of 19
    assert all(abs(count - 500) < 95 for count in counts)


@pytest.mark.parametrize("seed", [0, -1, 2**80])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    assert len(list(sample_entries(iter(ENTRIES), 3, seed))) == 3

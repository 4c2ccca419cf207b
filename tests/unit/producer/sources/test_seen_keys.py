"""Image keys that come twice, in one source or in two."""

from contextlib import closing
from pathlib import Path

import pytest
from support.sources import HEADER, error_of, make_files

from producer.sources import seen_keys
from producer.sources.open import check
from producer.sources.seen_keys import SeenKeys


def test_the_same_key_in_two_sources_is_an_error_that_names_both(tmp_path: Path) -> None:
    make_files(tmp_path, "old/x.jpg", "new/x.jpg")
    (tmp_path / "shop.csv").write_text("image_key,uri\ny.jpg,/y.jpg\nx.jpg,/x.jpg\n")
    old, new, shop = tmp_path / "old", tmp_path / "new", tmp_path / "shop.csv"
    assert error_of(old, new) == f"{new}: image_key 'x.jpg' is already in {old}"
    assert error_of(old, shop) == f"{shop}:3: image_key 'x.jpg' is already in {old}"
    assert error_of(shop, old) == f"{old}: image_key 'x.jpg' is already in {shop}:3"


def test_the_first_keys_that_come_twice_are_named_in_order_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_keys, "BLOCK", 64)
    with closing(SeenKeys(["a.csv", "b.csv"])) as seen:
        for number in range(1000):
            seen.add(f"한-{number % 900}", number // 500, number + 2)
        problems, count = seen.problems(2)
    assert count == 100
    again = "; keys that look the same are the same"
    assert [str(problem) for problem in problems] == [
        f"b.csv:902: image_key '한-0' is already in a.csv:2{again}",
        f"b.csv:903: image_key '한-1' is already in a.csv:3{again}",
    ]


def test_check_names_keys_that_come_twice_behind_the_other_problems_and_does_not_count_them(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    source.write_bytes(HEADER + b"a,/a\na,/b\n,/c\nb,/d\na,/e\n")
    report = check([str(source)])
    assert (report.entries, report.problem_count) == (2, 3)
    assert [problem.place for problem in report.problems] == [f"{source}:{line}" for line in (4, 3, 6)]
    assert report.problems[2].message == f"image_key 'a' is already in {source}:2"

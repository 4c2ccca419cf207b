"""All sources of a run together: their order, their checks, and the folders that they allow to be read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.sources import HEADER, error_of, image_keys, make_files

from producer.sources.open import check, roots_of
from tagmill.errors import InputError, NothingToDo

WriteManifest = Callable[[bytes | str], str]


def test_no_source_is_nothing_to_do() -> None:
    with pytest.raises(NothingToDo):
        image_keys()


@pytest.mark.parametrize("name", ["nothing", "nothing.csv", "nothing.jpg", "nul\0.csv"])
def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path, name: str) -> None:
    assert "no such file" in error_of(tmp_path / name)
    with pytest.raises(InputError, match=r"nothing|nul"):
        roots_of([str(tmp_path / name)])


def test_a_source_of_an_unknown_kind_is_an_error_that_names_the_known_suffixes(tmp_path: Path) -> None:
    make_files(tmp_path, "shop.xlsx")
    assert ".csv, .tsv, .txt, .jsonl, .ndjson, .parquet, .jpg" in error_of(tmp_path / "shop.xlsx")


def test_a_folder_of_manifests_is_an_error_that_says_how_to_name_them(tmp_path: Path) -> None:
    make_files(tmp_path, "part-00000.parquet", "_SUCCESS")
    with pytest.raises(NothingToDo, match=r"if these are manifests, name them: .*/\*\.parquet$"):
        image_keys(tmp_path)


def test_several_sources_are_read_in_order(tmp_path: Path) -> None:
    make_files(tmp_path, "a/2.jpg", "b/1.jpg")
    assert image_keys(tmp_path / "a", tmp_path / "b") == ["2.jpg", "1.jpg"]


def test_check_reports_every_problem_of_every_source(write_manifest: WriteManifest, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    source = write_manifest(HEADER + b'a,/a\n,/b\nb\xe4r,/c\nd,"/d"x\ne,s4://e\na,/f\ng,/g\n')
    report = check([source, str(tmp_path / "empty"), str(tmp_path / "nothing")])
    assert report.entries == 2
    # A key that comes twice is known at the end.
    places = [problem.place.removeprefix(source) for problem in report.problems]
    assert places[:4] + places[6:] == [":3", ":4", ":5", ":6", ":7"]
    assert [problem.empty for problem in report.problems] == [False] * 4 + [True, False, False]
    assert report.problem_count == 7


def test_check_keeps_the_first_hundred_problems_and_counts_the_others(write_manifest: WriteManifest) -> None:
    report = check([write_manifest(HEADER + b",/a\n" * 250)])
    assert (len(report.problems), report.problem_count, report.entries) == (100, 250, 0)


def test_check_of_a_good_source_reports_no_problem(write_manifest: WriteManifest) -> None:
    report = check([write_manifest(HEADER + b"a,/a\nb,/b\n")])
    assert (report.entries, report.problems, report.problem_count) == (2, (), 0)


def test_roots_are_the_folders_that_the_user_named(tmp_path: Path) -> None:
    make_files(tmp_path, "shop/a.jpg", "list/shop.csv", "one/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    real = tmp_path.resolve()
    sources = [tmp_path / name for name in ("shop", "link", "list/shop.csv", "one/b.jpg")]
    assert roots_of([str(source) for source in sources]) == (real / "shop", real / "list", real / "one" / "b.jpg")


@pytest.mark.parametrize("relative", [False, True])
def test_a_source_is_found_under_the_spelling_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path, "cafe\u0301/in/a.jpg")
    source = "caf\u00e9/in" if relative else str(tmp_path / "caf\u00e9" / "in")
    assert image_keys(source) == ["a.jpg"]
    assert roots_of([source]) == (tmp_path.resolve() / "cafe\u0301" / "in",)

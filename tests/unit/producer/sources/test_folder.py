"""Folders as sources: which files are entries, and their order."""

import os
import unicodedata
from pathlib import Path

import pytest
from support.sources import error_of, image_keys, make_files

from producer.sources.open import check, open_sources
from tagmill.errors import NothingToDo


def test_images_of_a_folder_are_sorted_by_relative_path(tmp_path: Path) -> None:
    make_files(tmp_path, "b.png", "a/2.JPG", "a/1.webp", "a.gif", "a/deep/er/x.TIFF", "notes.txt", "jpg")
    found = list(open_sources([str(tmp_path)]))
    assert [entry.image_key for entry in found] == sorted(["a.gif", "a/1.webp", "a/2.JPG", "a/deep/er/x.TIFF", "b.png"])
    assert all(entry.uri == str(tmp_path.resolve() / entry.image_key) for entry in found)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    make_files(tmp_path, "a.jpg", ".b.jpg", ".thumbs/c.jpg")
    assert image_keys(tmp_path) == ["a.jpg"]


def test_a_link_to_a_folder_is_not_followed_and_a_link_to_a_file_is_an_entry(tmp_path: Path) -> None:
    make_files(tmp_path, "shop/a.jpg", "secret/b.jpg")
    shop = tmp_path / "shop"
    (shop / "out").symlink_to(tmp_path / "secret")
    (shop / "out.jpg").symlink_to(tmp_path / "secret")
    (shop / "loop").symlink_to(shop)
    (shop / "link.jpg").symlink_to(shop / "a.jpg")
    (shop / "broken.jpg").symlink_to(shop / "nothing")
    assert image_keys(shop) == ["a.jpg", "broken.jpg", "link.jpg"]


def test_an_empty_folder_is_nothing_to_do_and_names_folder_and_suffixes(tmp_path: Path) -> None:
    make_files(tmp_path, "notes.txt")
    with pytest.raises(NothingToDo, match=r"looked for \.jpg, \.jpeg, \.png") as caught:
        image_keys(tmp_path)
    assert str(tmp_path) in str(caught.value)


def undecodable(folder: Path, name: bytes) -> Path:
    """Return a path whose name is not UTF-8."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


def test_a_name_that_is_not_utf8_costs_its_file_alone(tmp_path: Path) -> None:
    make_files(tmp_path, "a.jpg", "z/c.jpg")
    undecodable(tmp_path, b"b\xff.jpg").write_bytes(b"x")
    undecodable(tmp_path, b"caf\xe9").mkdir()
    undecodable(tmp_path, b"caf\xe9/in.jpg").write_bytes(b"x")
    report = check([str(tmp_path)])
    assert (report.entries, report.problems) == (2, ())
    assert report.skipped.lines() == [
        r"skipped 2 files with names that are not UTF-8, rename them: b\udcff.jpg, caf\udce9/in.jpg"
    ]


def test_a_folder_in_which_no_name_is_utf8_is_an_error_because_sql_cannot_store_them(tmp_path: Path) -> None:
    undecodable(tmp_path, b"\xff.jpg").write_bytes(b"x")
    assert "a name that is not UTF-8" in error_of(tmp_path)


def test_a_folder_whose_own_name_is_not_utf8_is_one_problem(tmp_path: Path) -> None:
    folder = undecodable(tmp_path, b"caf\xe9")
    folder.mkdir()
    make_files(folder, "a.jpg", "b.jpg")
    assert error_of(folder) == f"{str(folder)!r}: its name is not UTF-8, rename it"


def test_skipped_files_are_counted_and_named(tmp_path: Path) -> None:
    make_files(tmp_path, "a.jfif", "b.psd", "in/c.JXL", "in/d.jxl", "Thumbs.db", "notes", ".DS_Store")
    make_files(tmp_path, "__MACOSX/._a.jfif", "._a.jfif")
    skipped = check([str(tmp_path)]).skipped
    assert image_keys(tmp_path) == ["a.jfif"]
    assert skipped.to_json() == {
        "skipped_count": 8,
        "skipped": [
            {"kind": ".jxl", "count": 2, "examples": ["in/c.JXL", "in/d.jxl"]},
            {"kind": ".psd", "count": 1, "examples": ["b.psd"]},
            {"kind": "hidden", "count": 3, "examples": sorted(["._a.jfif", ".DS_Store", "__MACOSX"])},
            {"kind": ".db", "count": 1, "examples": ["Thumbs.db"]},
            {"kind": "no suffix", "count": 1, "examples": ["notes"]},
        ],
    }


def test_the_error_of_a_folder_of_skipped_files_names_them(tmp_path: Path) -> None:
    make_files(tmp_path, "a.jxl", "b.jxl")
    with pytest.raises(NothingToDo, match=r"skipped 2 \.jxl files, images that are not read: a\.jxl, b\.jxl"):
        image_keys(tmp_path)


@pytest.mark.parametrize("name", ["caf\u00e9.jpg", "cafe\u0301.jpg", "\u1112\u1161\u11ab.jpg", "\u00a0a.jpg"])
def test_a_key_is_normalized_and_the_uri_spelled_as_on_the_disk(tmp_path: Path, name: str) -> None:
    make_files(tmp_path, name)
    (found,) = open_sources([str(tmp_path)])
    assert found.image_key == unicodedata.normalize("NFC", name).strip()
    assert found.uri == f"{tmp_path.resolve()}/{name}"


def test_two_names_that_look_the_same_are_one_key(tmp_path: Path) -> None:
    make_files(tmp_path, "caf\u00e9.jpg", "cafe\u0301.jpg")
    assert error_of(tmp_path) == (
        f"{tmp_path}: image_key 'caf\u00e9.jpg' is already in {tmp_path}; keys that look the same are the same"
    )

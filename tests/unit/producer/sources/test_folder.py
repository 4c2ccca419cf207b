"""Folders as sources: which files are entries, and their order."""

import os
from pathlib import Path

import pytest
from support.sources import error_of, image_keys, make_files

from producer.sources.open import open_sources
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


def test_a_file_name_that_is_not_utf8_is_an_error_because_sql_cannot_store_it(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))).write_bytes(b"x")
    assert "is not UTF-8" in error_of(tmp_path)

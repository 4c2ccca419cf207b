"""A prefix of an object store or a file system is read as a folder is: sorted, with the same files skipped."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from support.s3_server import S3Server

from producer.sources.base import Row, Skipped
from producer.sources.folder import read_folder
from producer.sources.stores import listing
from producer.sources.stores.pattern import pattern_of
from producer.sources.stores.prefix import read_prefix
from tagmill.locations.schemes import SCHEMES, Kind, parse_stored
from tagmill.stores.file_system import forget_file_system

NAMES = (
    *["b.jpg", "a/2.jpg", "a/1.PNG", "a-b/1.jpg", "a.jpg/1.webp", "셔츠/빨강.jpg", "summer 2026/1@2x.jpg", "100%.jpg"],
    *["note.txt", "a/Thumbs.db", "README", ".hidden/1.jpg", ".hidden/deep/2.jpg", "a/._1.jpg", "__MACOSX/a/1.jpg"],
    *["x__y/1.jpg", "photo.heic"],
)


def read(source: str) -> list[object]:
    return list(read_prefix(pattern_of(parse_stored(source))))


def without_roots(items: list[object]) -> list[object]:
    """Return rows as keys, and what is skipped, in one order: a folder tells of skipped files before its images."""
    keys = [item.image_key for item in items if isinstance(item, Row)]
    return [*keys, *sorted(item for item in items if isinstance(item, Skipped))]


@pytest.fixture
def folder(tmp_path: Path) -> list[object]:
    """What `read_folder` makes of the same files."""
    for name in NAMES:
        file = tmp_path / "catalog" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"picture")
    return without_roots(list(read_folder(str(tmp_path / "catalog"))))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's file system in memory, as one of the table of schemes."""
    monkeypatch.setitem(SCHEMES, "memory", Kind.FILE_SYSTEM)
    forget_file_system("memory", "shop")
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def test_a_prefix_of_a_bucket_is_read_as_a_folder_is(
    s3_server: S3Server, folder: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_PAGE", 3)
    s3_server.put("shop", {f"catalog/{name}": b"picture" for name in NAMES})
    s3_server.put("shop", {"catalog-2/1.jpg": b"", "catalog/": b"", "catalog/a/": b"", "1.jpg": b""})
    found = read("s3://shop/catalog")
    assert without_roots(found) == folder
    assert [item.uri for item in found if isinstance(item, Row)][:2] == [
        "s3://shop/catalog/100%.jpg",
        "s3://shop/catalog/a-b/1.jpg",
    ]


def test_a_folder_of_a_file_system_is_read_as_one_of_this_machine(
    folder: list[object], memory: fsspec.AbstractFileSystem
) -> None:
    for name in NAMES:
        memory.pipe_file(f"/shop/catalog/{name}", b"picture")
    found = read("memory://shop/catalog/")
    assert without_roots(found) == folder
    assert next(item.uri for item in found if isinstance(item, Row)) == "memory://shop/catalog/100%.jpg"


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("s3://shop/**/*.jpg", ["a/1.jpg", "a/b/2.jpg", "c.jpg"]),
        ("s3://shop/*/*.jpg", ["a/1.jpg"]),
        ("s3://shop/a/**", ["1.jpg", "b/2.jpg", "b/3.png"]),
        ("s3://shop", ["a/1.jpg", "a/b/2.jpg", "a/b/3.png", "c.jpg"]),
    ],
)
def test_the_keys_of_a_pattern_are_relative_to_its_prefix(s3_server: S3Server, source: str, keys: list[str]) -> None:
    s3_server.put("shop", dict.fromkeys(["c.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/3.png"], b"picture"))
    assert [item.image_key for item in read(source) if isinstance(item, Row)] == keys


def test_a_file_that_workers_would_refuse_is_a_problem(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/shop/a/%2e%2e/1.jpg", b"picture")
    assert [str(item) for item in read("memory://shop/a/")] == [
        "memory://shop/a/%2e%2e/1.jpg: holds a part `.` or `..`"
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [("s3://none/a/", "no such bucket"), ("s3://shop/", "holds a key with a part that is empty, `.` or `..`; name a")],
)
def test_a_prefix_that_cannot_be_listed_says_why(s3_server: S3Server, source: str, message: str) -> None:
    s3_server.put("shop", {"a//1.jpg": b"picture"})
    with pytest.raises(OSError, match=message):
        read(source)

"""Images on file systems that fsspec reads, here its own in memory, in the place of sftp:// and others."""

import sys
from collections.abc import Iterator

import fsspec
import pytest

from tagmill.locations import SCHEMES, Kind
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.stores import file_system
from worker.sources.fetcher import Fetcher, FetchLimits


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's file system in memory, as one of the table."""
    monkeypatch.setitem(SCHEMES, "memory", Kind.FILE_SYSTEM)
    file_system.forget_file_system("memory", "shop")
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()


@pytest.fixture
def shop() -> Fetcher:
    return Fetcher(["memory://shop/in/"], FetchLimits(1000, 5.0))


def failure_of(fetcher: Fetcher, uri: str) -> ImageFailure:
    with pytest.raises(ImageFailure) as failed:
        fetcher.fetch(uri)
    return failed.value


@pytest.mark.parametrize("key", ["in/1.jpg", "in/a%20b?c#d.jpg", "in/셔츠/빨강@2x.jpg"])
def test_a_file_is_read(files: fsspec.AbstractFileSystem, shop: Fetcher, key: str) -> None:
    files.pipe_file(f"/shop/{key}", b"picture")
    assert shop.fetch(f"memory://shop/{key}").data == b"picture"


@pytest.mark.parametrize(
    ("uri", "code", "detail"),
    [
        ("memory://shop/in/none.jpg", ErrorCode.NOT_FOUND, "no such file"),
        ("memory://shop/in/large.jpg", ErrorCode.TOO_MANY_BYTES, "is larger than 1000 bytes"),
        ("memory://shop/out/1.jpg", ErrorCode.FORBIDDEN_LOCATION, "is below none of the allowed prefixes"),
    ],
)
def test_a_failure_is_named(
    files: fsspec.AbstractFileSystem, shop: Fetcher, uri: str, code: ErrorCode, detail: str
) -> None:
    files.pipe_file("/shop/in/large.jpg", bytes(1001))
    files.pipe_file("/shop/out/1.jpg", b"picture")
    failure = failure_of(shop, uri)
    assert failure.code == code
    assert failure.detail.startswith(f"{uri}: {detail}")


def test_a_file_system_that_breaks_is_opened_again(
    files: fsspec.AbstractFileSystem, shop: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.pipe_file("/shop/in/1.jpg", b"picture")
    opened = []

    def open_file_system(scheme: str, root: str) -> fsspec.AbstractFileSystem:
        opened.append(root)
        if len(opened) == 1:
            raise EOFError("anna:s3cret@host hung up")
        return files

    monkeypatch.setattr(file_system, "_open", open_file_system)
    assert shop.fetch("memory://shop/in/1.jpg").data == b"picture"
    assert opened == ["shop", "shop"]


def test_a_library_that_fails_is_named_without_its_message(
    files: fsspec.AbstractFileSystem, shop: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(scheme: str, root: str) -> fsspec.AbstractFileSystem:
        raise EOFError("anna:s3cret@host hung up")

    monkeypatch.setattr(file_system, "_open", fail)
    failure = failure_of(shop, "memory://shop/in/1.jpg")
    assert (failure.code, failure.detail) == (ErrorCode.FETCH_FAILED, "memory://shop/in/1.jpg: EOFError")


@pytest.mark.parametrize(
    ("uri", "missing", "packages"),
    [
        ("sftp://files.example/1.jpg", "paramiko", "fsspec paramiko"),
        ("smb://files.example/1.jpg", "smbprotocol", "fsspec smbprotocol"),
        ("ftp://files.example/1.jpg", "fsspec", "fsspec"),
    ],
)
def test_a_missing_package_is_named(uri: str, missing: str, packages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    failure = failure_of(Fetcher([uri], FetchLimits(1000, 5.0)), uri)
    scheme = uri.partition(":")[0]
    assert failure.detail == f"{scheme}:// needs further packages; pip install {packages}"

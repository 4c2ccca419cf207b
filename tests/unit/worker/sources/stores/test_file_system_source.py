"""Images on file systems that fsspec reads, here its own in memory, in the place of sftp:// and others."""

import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from support.ftp_server import FtpServer

from producer.sources.open import open_sources
from tagmill.locations.schemes import SCHEMES, Kind
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
    return Fetcher(["memory://shop/in/"], FetchLimits(1000, 60.0))


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


def test_a_real_ftp_server_is_listed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/b.jpg", "in/a/1 %20#@2x.jpg", "in/.hidden.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "in" / "m.csv").write_text("image_key,uri\nx,a/1 %20#@2x.jpg\n")
    monkeypatch.setitem(fsspec.config.conf, "ftp", {"username": "anna", "password": "s3cret"})
    server = FtpServer(tmp_path, "anna", "s3cret")
    uris = [f"{server.url}/in/a/1 %20#@2x.jpg", f"{server.url}/in/b.jpg"]
    assert [entry.uri for entry in open_sources([f"{server.url}/in/"])] == uris
    assert [entry.uri for entry in open_sources([f"{server.url}/in/m.csv"])] == uris[:1]
    shop = Fetcher([f"{server.url}/in/"], FetchLimits(1000, 60.0))
    assert [shop.fetch(uri).data for uri in uris] == [b"in/a/1 %20#@2x.jpg", b"in/b.jpg"]
    assert failure_of(shop, f"{server.url}/in/c.jpg").code == ErrorCode.NOT_FOUND
    (tmp_path / "in" / "b.jpg").write_bytes(b"another picture")
    assert shop.fetch(uris[1]).data == b"another picture"  # no listing is kept
    forget_all()
    monkeypatch.setitem(fsspec.config.conf, "ftp", {"username": "anna", "password": "wrong"})
    assert failure_of(shop, uris[1]).detail == f"{uris[1]}: access denied"
    server.close()


def forget_all() -> None:
    """Have this thread open new connections."""
    file_system._opened.__dict__.clear()


@pytest.mark.parametrize("scheme", sorted(scheme for scheme, kind in SCHEMES.items() if kind is Kind.FILE_SYSTEM))
def test_only_the_host_of_a_location_reaches_its_file_system(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class FileSystem:
        def __init__(self, **options: object) -> None:
            self.options = options

        @staticmethod
        def _get_kwargs_from_urls(url: str) -> dict[str, object]:
            return {"url": url}

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda found: FileSystem)
    forget_all()
    options = file_system.open_file_system(scheme, "host:22").options
    forget_all()
    assert options.pop("skip_instance_cache") is True
    # paramiko would get an option that it does not know.
    assert options.pop("use_listings_cache", None) is (None if scheme == "sftp" else False)
    assert options == ({} if scheme == "hf" else {"url": f"{scheme}://host:22/"})
    assert scheme in fsspec.available_protocols()


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
    failure = failure_of(Fetcher([uri], FetchLimits(1000, 60.0)), uri)
    scheme = uri.partition(":")[0]
    assert failure.detail == f"{scheme}:// needs further packages; pip install {packages}"

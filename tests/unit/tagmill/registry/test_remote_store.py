"""Bundles in an object store or on a file system of another machine, and their cache on this one."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import fsspec.config
import pytest
from support.ftp_server import FtpServer
from support.s3_server import S3Server

from tagmill.errors import ConfigurationError, ServiceDown
from tagmill.registry import download
from tagmill.registry.open_store import open_store
from tagmill.registry.remote_store import RemoteStore
from tagmill.registry.store import BundleUnavailableError, ModelStore, StoreDownError
from tagmill.settings import Settings
from tagmill.stores.object_store import open_bucket

BUNDLE = b"a bundle " * 1000
SHA256 = hashlib.sha256(BUNDLE).hexdigest()
PLACE = f"s3://models/shop/{SHA256}.onnx"
Opened = Callable[..., RemoteStore]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Return what opens the store as another process does: with a cache folder that all share."""
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))

    def open_it(where: str = "s3://models/shop/", **settings: object) -> RemoteStore:
        given = Settings(model_store=where, cache_folder=tmp_path / "cache", **settings)  # type: ignore[arg-type]
        store = open_store(given)
        assert isinstance(store, RemoteStore)
        return store

    return open_it


@pytest.fixture
def models(s3_server: S3Server) -> S3Server:
    """A bucket with the bundle."""
    s3_server.put("models", {f"shop/{SHA256}.onnx": BUNDLE})
    s3_server.requests()
    return s3_server


def cached(tmp_path: Path, sha256: str = SHA256) -> Path:
    return tmp_path / "cache" / "bundles" / f"{sha256}.onnx"


def test_a_bundle_that_was_added_is_downloaded_once_for_all_processes(
    s3_server: S3Server, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "b.onnx").write_bytes(BUNDLE)
    s3_server.put("models", {})
    assert str(opened().add(tmp_path / "b.onnx", SHA256)) == PLACE
    s3_server.requests()
    threads = [threading.Thread(target=opened().path, args=(SHA256,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened().verified(SHA256) == cached(tmp_path)
    assert cached(tmp_path).read_bytes() == BUNDLE
    assert [request.split()[0] for request in s3_server.requests()] == ["HEAD", "HEAD", "GET"]
    assert [path.name for path in cached(tmp_path).parent.iterdir() if "partial" in path.name] == []


def test_a_damaged_file_of_the_cache_is_downloaded_again(models: S3Server, opened: Opened, tmp_path: Path) -> None:
    store = opened()
    store.verified(SHA256).write_bytes(b"damaged")
    assert store.verified(SHA256).read_bytes() == BUNDLE


def test_a_download_that_breaks_is_begun_again(models: S3Server, opened: Opened) -> None:
    models.refuse(f"/models/shop/{SHA256}.onnx", 500, "InternalError", times=3)
    assert opened().path(SHA256).read_bytes() == BUNDLE


def test_a_damaged_object_is_named_and_downloaded_again_only_when_it_changes(
    s3_server: S3Server, opened: Opened, tmp_path: Path
) -> None:
    s3_server.put("models", {f"shop/{SHA256}.onnx": BUNDLE[:-1]})
    for _ in range(2):
        with pytest.raises(BundleUnavailableError, match=f"{PLACE}: its sha256 differs") as failed:
            opened().path(SHA256)
    assert failed.value.sha256 == SHA256
    assert sum(request.startswith("GET") for request in s3_server.requests()) == 3
    assert not cached(tmp_path).exists()
    s3_server.put("models", {f"shop/{SHA256}.onnx": BUNDLE})
    assert opened().path(SHA256) == cached(tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(403, "AccessDenied", "access denied"), (404, "NoSuchKey", "no such object; correct TAGMILL_MODEL_STORE")],
)
def test_a_bundle_that_this_worker_cannot_have_is_a_fault_of_the_store(
    models: S3Server, opened: Opened, status: int, code: str, said: str
) -> None:
    models.refuse(f"/models/shop/{SHA256}.onnx", status, code, times=9)
    with pytest.raises(BundleUnavailableError, match=said):
        opened().path(SHA256)


def test_a_store_that_does_not_answer_says_nothing_about_its_bundles(
    models: S3Server, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("tagmill.stores.whole_file.RETRIES", 0)
    open_bucket.cache_clear()
    with pytest.raises(StoreDownError, match="no connection; the model store does not answer"):
        opened().path(SHA256)
    (tmp_path / "b.onnx").write_bytes(BUNDLE)
    with pytest.raises(ServiceDown, match="no connection; try again later"):
        opened().add(tmp_path / "b.onnx", SHA256)


def test_a_bundle_of_the_cache_is_used_while_the_store_is_down(
    models: S3Server, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().path(SHA256)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    open_bucket.cache_clear()
    assert opened().path(SHA256).read_bytes() == BUNDLE


def test_a_cache_that_cannot_be_written_to_is_named(models: S3Server, opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BundleUnavailableError, match=r"cache/bundles: .*TAGMILL_CACHE_FOLDER"):
        opened().path(SHA256)


def test_the_bundles_used_least_recently_make_room(s3_server: S3Server, opened: Opened, tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(4)]
    shas = [hashlib.sha256(content).hexdigest() for content in contents]
    s3_server.put("models", {f"shop/{sha}.onnx": content for sha, content in zip(shas, contents, strict=True)})
    for age, sha in enumerate(shas[:3]):
        opened().path(sha)
        used = 10_000 + 1_000 * age
        os.utime(cached(tmp_path, sha), (used, used))
    opened().verified(shas[0])  # used now: the oldest is the second one
    opened(bundle_cache_bytes=2500).path(shas[3])
    assert [cached(tmp_path, sha).exists() for sha in shas] == [True, False, False, True]


def test_bundles_are_kept_on_a_file_system_that_fsspec_reads(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what fsspec reads of FSSPEC_FTP_USERNAME and FSSPEC_FTP_PASSWORD when it is imported
    monkeypatch.setitem(fsspec.config.conf, "ftp", {"username": "anna", "password": "s3cret"})
    (tmp_path / "served").mkdir()
    (tmp_path / "b.onnx").write_bytes(BUNDLE)
    server = FtpServer(tmp_path / "served", "anna", "s3cret", perm="elradfmw")
    try:
        store = opened(f"{server.url}/models/shop")
        for _ in range(2):
            store.add(tmp_path / "b.onnx", SHA256)
        assert store.path(SHA256) == cached(tmp_path)
        assert [path.name for path in (tmp_path / "served/models/shop").iterdir()] == [f"{SHA256}.onnx"]
        with pytest.raises(BundleUnavailableError, match="no such file"):
            store.path("0" * 64)
    finally:
        server.close()
    with pytest.raises(StoreDownError):
        store.path("0" * 64)


def test_a_scheme_that_fsspec_knows_is_enough(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "b.onnx").write_bytes(BUNDLE)
    store = opened("memory://models/shop")
    store.add(tmp_path / "b.onnx", SHA256)
    assert store.path(SHA256).read_bytes() == BUNDLE
    with pytest.raises(ConfigurationError, match="unheard:// is no file system that fsspec knows"):
        opened("unheard://models/shop").add(tmp_path / "b.onnx", SHA256)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(open_store(Settings(model_store=f"file://{tmp_path}/a%20b")), ModelStore)  # type: ignore[arg-type]


def test_a_bundle_that_is_removed_is_gone_in_the_store_and_in_the_cache(
    models: S3Server, opened: Opened, tmp_path: Path
) -> None:
    store = opened()
    store.verified(SHA256)
    assert store.remove(SHA256) == len(BUNDLE)
    assert not cached(tmp_path).exists()
    assert store.remove(SHA256) == 0
    with pytest.raises(BundleUnavailableError):
        store.path(SHA256)
    for other in (ModelStore(tmp_path / "folder"), opened("memory://bundles")):
        (tmp_path / "b.onnx").write_bytes(BUNDLE)
        other.add(tmp_path / "b.onnx", SHA256)
        assert (other.remove(SHA256), other.remove(SHA256)) == (len(BUNDLE), 0)

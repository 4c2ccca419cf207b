"""A second run over the same, changed or unchanged images: what it infers, what it reads, and what the views show."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import Engine, select
from support.bundles import write_fussy_classifier
from support.image_fixtures import write_folder, write_image
from support.shop import Shop

from tagmill.db.schema import image_content
from tagmill.records import Entry
from worker.inference.session_cache import SessionCache
from worker.pipeline import known
from worker.sources.fetcher import Fetched, Fetcher
from worker.sources.terms import Terms


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locations that are read, in order; files are remembered however recently they changed."""
    monkeypatch.setattr(known, "RACY_SECONDS", -1.0)
    read: list[str] = []
    fetch = Fetcher.fetch

    def recording(self: Fetcher, uri: str, terms: Terms | None = None) -> Fetched:
        read.append(uri)
        return fetch(self, uri, terms)

    monkeypatch.setattr(Fetcher, "fetch", recording)
    return read


def test_a_second_run_over_unchanged_files_reads_and_infers_nothing(shop: Shop, reads: list[str]) -> None:
    write_folder(shop.folder, 100)
    first = shop.tag()
    assert (first.tagged, first.inferences, len(reads)) == (100, 100, 100)
    second = shop.tag()
    assert (second.tagged, second.inferences, len(reads)) == (100, 0, 100)


def test_a_second_run_over_unchanged_files_loads_no_bundle(
    shop: Shop, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(shop.folder, 3)
    shop.tag()
    monkeypatch.setattr(SessionCache, "get", lambda self, sha256: pytest.fail("a bundle was loaded"))
    assert shop.tag().tagged == 3


def test_only_what_has_changed_is_read_again(shop: Shop, reads: list[str]) -> None:
    write_folder(shop.folder, 10)
    shop.tag()
    reads.clear()
    write_image(shop.folder / "00003.png", "blue", size=(77, 20))
    write_image(shop.folder / "new.png", "red", size=(78, 20))
    again = shop.tag()
    assert (again.tagged, again.inferences) == (11, 2)
    assert sorted(reads) == [str(shop.folder / "00003.png"), str(shop.folder / "new.png")]


def test_a_file_rewritten_with_its_old_size_and_time_is_noticed(shop: Shop, reads: list[str]) -> None:
    path = write_image(shop.folder / "a.bmp", "red")
    before = path.stat()
    shop.tag()
    write_image(path, "blue")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert shop.tag().inferences == 1
    assert shop.rows("SELECT label FROM catalog_labels WHERE rank = 1") == [("blue",)]


def test_a_file_that_changed_just_before_it_was_hashed_is_not_remembered(shop: Shop) -> None:
    write_image(shop.folder / "young.png", "red")
    shop.tag()
    assert shop.rows("SELECT count(*) FROM known_file") == [(0,)]
    time.sleep(known.RACY_SECONDS + 0.2)
    assert shop.tag().inferences == 0
    assert shop.rows("SELECT count(*) FROM known_file") == [(1,)]


def test_a_long_batch_does_not_make_a_young_file_old(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Fetcher.fetch

    def slow(self: Fetcher, uri: str, terms: Terms | None = None) -> Fetched:
        found = fetch(self, uri, terms)
        time.sleep(known.RACY_SECONDS + 0.2)
        return found

    monkeypatch.setattr(Fetcher, "fetch", slow)
    write_image(shop.folder / "young.png", "red")
    shop.tag()
    assert shop.rows("SELECT count(*) FROM known_file") == [(0,)]


def test_a_known_file_outside_the_allowed_folders_is_refused(shop: Shop, reads: list[str], tmp_path: Path) -> None:
    path = write_image(shop.folder / "a.png", "red")
    shop.tag()
    path.rename(tmp_path / "outside.png")
    refused = shop.tag([Entry("a", str(tmp_path / "outside.png"))])
    assert refused.failures == {"forbidden_location": 1}


def test_changed_bytes_behind_one_location_are_one_new_inference_and_the_old_stays(shop: Shop) -> None:
    path = write_image(shop.folder / "a.png", "red")
    old = shop.tag()
    write_image(path, "blue")
    new = shop.tag()
    assert (old.inferences, new.inferences) == (1, 1)
    assert shop.rows("SELECT label, run_id FROM catalog_labels WHERE rank = 1") == [("blue", new.run)]
    history = shop.rows(
        "SELECT run_id, name FROM tagged_entry JOIN result ON result.image_id = tagged_entry.image_id "
        "JOIN label_name ON label_name.id = label_1 ORDER BY run_id"
    )
    assert history == [(old.run, "red"), (new.run, "blue")]


class Server(ThreadingHTTPServer):
    """Serves one image at every path, and records the requests."""

    def __init__(self, image: bytes) -> None:
        outer = self
        self.requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.image)))
                self.end_headers()
                self.wfile.write(outer.image)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.image = image

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(write_image(tmp_path / "served.png", "green").read_bytes()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_same_bytes_in_five_entries_under_three_urls_are_one_inference(shop: Shop, server: Server) -> None:
    copy = shop.folder / "copy.png"
    copy.write_bytes(server.image)
    entries = [Entry(f"url-{number}", server.url(f"{number}.png")) for number in range(3)]
    entries += [Entry("again", server.url("0.png")), Entry("file", str(copy))]
    done = shop.tag(entries)
    assert (done.tagged, done.inferences) == (5, 1)
    sha256 = hashlib.sha256(server.image).hexdigest()
    assert shop.rows("SELECT DISTINCT sha256 FROM run_image") == [(sha256,)]
    with shop.engine.connect() as connection:
        assert connection.execute(select(image_content.c.sha256)).scalars().all() == [sha256]
    assert shop.rows("SELECT count(*), min(label) FROM catalog_labels WHERE rank = 1") == [(5, "green")]


def test_changed_bytes_behind_a_url_are_seen_by_a_second_run(shop: Shop, server: Server, tmp_path: Path) -> None:
    entries = [Entry("a", server.url("a.png"))]
    assert shop.tag(entries).inferences == 1
    assert shop.tag(entries).inferences == 0
    server.image = write_image(tmp_path / "other.png", "red").read_bytes()
    assert shop.tag(entries).inferences == 1
    assert shop.rows("SELECT label FROM catalog_labels WHERE rank = 1") == [("red",)]
    assert len(server.requests) == 3


def test_in_a_batch_of_64_four_bad_images_fail_with_four_codes_and_60_are_tagged(
    engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    fussy = Shop(engine, folder, write_fussy_classifier(tmp_path / "fussy.onnx"))
    truth = write_folder(folder, 60)
    whole = write_image(tmp_path / "whole.jpg", "red", size=(200, 200)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")
    (folder / "missing.jpg").symlink_to(folder / "nowhere.jpg")
    Image.new("RGB", (20, 20), (77, 0, 0)).save(folder / "raises.png")
    done = fussy.tag()
    fussy.batches.close()
    assert (done.images, done.tagged, sum(done.batches.values())) == (64, 60, 1)
    failed = fussy.rows("SELECT image_key, error_code FROM run_image WHERE status = 'failed' ORDER BY image_key")
    assert dict(failed) == {
        "bomb.png": "too_many_pixels",
        "cut.jpg": "truncated",
        "missing.jpg": "not_found",
        "raises.png": "inference_failed",
    }
    found = fussy.rows("SELECT image_key, label FROM catalog_labels WHERE rank = 1")
    assert dict(found) == truth

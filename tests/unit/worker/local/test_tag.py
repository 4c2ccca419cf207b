"""`tagmill tag`: which interrupted run it continues, and how often it loads a bundle."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from support.bundles import write_classifier, write_segmenter
from support.http_site import Site, in_turn, reply
from support.image_fixtures import write_folder
from support.s3_server import S3Server

from tagmill.db.connection import connect
from tagmill.db.schema import model, run
from tagmill.db.schema import run as run_table
from tagmill.errors import BundleError, NothingToDo
from tagmill.fetch_options import FetchOptions, HostLimits
from tagmill.ledger.runs.progress import RunProgress
from tagmill.outcomes import ErrorCode
from tagmill.records import Entry
from tagmill.settings import Settings
from worker.inference import session
from worker.inference.backend import Backend
from worker.local.tag import NamedBundles, local_queue, local_settings, tag_locally


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


BUNDLES = NamedBundles({"a" * 64: Path("a.onnx")})


def test_the_same_entries_find_their_run_and_others_do_not() -> None:
    entries = [Entry("one", "/shop/one.jpg"), Entry("two", "/shop/two.jpg")]
    queue = local_queue(entries, 64, BUNDLES)
    assert local_queue(iter(entries), 64, BUNDLES) == queue
    assert local_queue([*entries, Entry("three", "/shop/three.jpg")], 64, BUNDLES) != queue
    assert local_queue([entries[0], Entry("two", "/shop/other.jpg")], 64, BUNDLES) != queue
    assert local_queue(entries, 32, BUNDLES) != queue
    assert local_queue(entries, 64, NamedBundles({"b" * 64: Path("b.onnx")})) != queue


def test_the_bundle_that_is_registered_is_the_one_that_tags(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    open_backend = session.open_backend

    def opening(path: Path, *others: object) -> Backend:
        opened.append(path)
        return open_backend(path, *others)

    monkeypatch.setattr(session, "open_backend", opening)
    write_folder(tmp_path / "shop", 5)
    bundles = [write_classifier(tmp_path / "c.onnx"), write_segmenter(tmp_path / "s.onnx")]
    settings = local_settings(Settings(device="cpu"), sqlite_url)
    done = tag_locally(settings, [str(tmp_path / "shop")], bundles, 2, lambda progress: None)
    assert (done.progress.tagged, [model.name for model in done.models]) == (5, ["colors", "color-masks"])
    assert opened == bundles


def test_a_second_run_in_the_same_process_is_tagged_by_a_worker_of_its_own(sqlite_url: str, tmp_path: Path) -> None:
    settings, bundle = local_settings(Settings(device="cpu"), sqlite_url), write_classifier(tmp_path / "c.onnx")
    for name in ("one", "two"):
        write_folder(tmp_path / name, 3)
        done = tag_locally(settings, [str(tmp_path / name)], [bundle], 2, lambda progress: None)
        assert (done.progress.state, done.progress.tagged) == ("done", 3)


def test_a_prefix_of_a_bucket_is_tagged_as_a_folder_is(sqlite_url: str, tmp_path: Path, s3_server: S3Server) -> None:
    names = write_folder(tmp_path / "shop", 3)
    s3_server.put("shop", {f"in/{name}": (tmp_path / "shop" / name).read_bytes() for name in names})
    settings, bundle = local_settings(Settings(device="cpu"), sqlite_url), write_classifier(tmp_path / "c.onnx")
    done = tag_locally(settings, ["s3://shop/in/"], [bundle], 2, lambda progress: None)
    assert (done.progress.tagged, done.progress.source) == (3, "s3://shop/in/")


def test_failed_images_are_retried_in_their_run(sqlite_url: str, tmp_path: Path, site: Site) -> None:
    picture = (tmp_path / "shop" / next(iter(write_folder(tmp_path / "shop", 1)))).read_bytes()
    site.replies["/a.jpg"] = reply(body=picture)
    site.replies["/b.jpg"] = in_turn(reply(429, Retry_After="9999"), reply(body=picture))
    site.replies["/c.jpg"] = reply(404)
    manifest = tmp_path / "urls.csv"
    manifest.write_text("image_key,uri\n" + "".join(f"{name},{site.url}/{name}.jpg\n" for name in "abc"))
    bundle = write_classifier(tmp_path / "c.onnx")
    settings = local_settings(Settings(device="cpu", allow_private_hosts="127.0.0.1"), sqlite_url)

    def tag(retry: list[ErrorCode] | None) -> RunProgress:
        return tag_locally(settings, [str(manifest)], [bundle], 2, lambda progress: None, retry).progress

    with pytest.raises(NothingToDo, match="no earlier run over the same images"):
        tag([])
    first = tag(None)
    assert (first.tagged, first.failures) == (1, {"fetch_failed": 1, "not_found": 1})
    asked = len(site.requests)
    second = tag([ErrorCode.FETCH_FAILED])
    assert (second.run, second.tagged, second.failures) == (first.run, 2, {"not_found": 1})
    assert [request.path for request in site.requests[asked:]] == ["/b.jpg"]
    with pytest.raises(NothingToDo, match="run 1: no image to retry with this code"):
        tag([ErrorCode.FETCH_FAILED])
    site.replies["/b.jpg"] = site.replies["/c.jpg"] = site.replies["/a.jpg"]
    third = tag([])
    assert (third.run, third.tagged, third.failed, third.state) == (first.run, 3, 0, "done")
    with pytest.raises(NothingToDo, match=r"^run 1: no image to retry$"):
        tag([])
    fourth = tag(None)  # without `retry`, a run of its own
    assert (fourth.run, fourth.tagged) == (first.run + 1, 3)


def test_a_bundle_that_does_not_load_is_an_error_before_any_source_is_read(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    settings = local_settings(Settings(device="cpu"), sqlite_url)
    bundles = [write_classifier(tmp_path / "c.onnx"), tmp_path / "broken.onnx"]
    with pytest.raises(BundleError, match=r"broken\.onnx"):
        tag_locally(settings, [str(tmp_path / "no such folder")], bundles, 2, lambda progress: None)
    engine = connect(sqlite_url)
    with engine.connect() as connection:
        assert [connection.execute(select(func.count()).select_from(table)).scalar() for table in (run, model)] == [
            0,
            0,
        ]
    engine.dispose()


def test_the_fetch_options_of_the_last_command_count_for_what_is_left_of_a_run(
    sqlite_url: str, tmp_path: Path, site: Site
) -> None:
    manifest = tmp_path / "urls.csv"
    manifest.write_text(f"image_key,uri\na,{site.url}/none.jpg\n")
    bundle = write_classifier(tmp_path / "c.onnx")
    settings = local_settings(Settings(device="cpu", allow_private_hosts="127.0.0.1"), sqlite_url)
    stored = []
    for limits, retry in ((HostLimits(2, 5.0), None), (HostLimits(3), []), (None, [])):
        fetching = FetchOptions(limits=limits)
        command = ([str(manifest)], [bundle], 2, lambda progress: None, retry)
        run = tag_locally(settings, *command, fetching=fetching)
        with run.engine.connect() as connection:
            stored.append(connection.execute(select(run_table.c.parameters)).scalar_one())
    names = ("per_host", "per_host_rate", "batch_size")
    assert [[parameters.get(name) for name in names] for parameters in stored] == [
        [2, 5, 2],
        [3, 0, 2],
        [None, None, 2],
    ]

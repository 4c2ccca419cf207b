"""A second run over URLs: what their servers are asked, what is read, inferred and written."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundles import write_classifier
from support.http_site import Site, reply, versioned
from support.image_fixtures import write_image
from support.shop import Shop

from tagmill.fetch_options import FetchOptions
from tagmill.records import Entry
from worker.inference.session_cache import SessionCache
from worker.pipeline import known
from worker.sources.fetcher import Fetcher

READ_FILE = Fetcher._read_file
OLD, OLDER = "Mon, 30 Nov 2020 20:24:39 GMT", "Sun, 29 Nov 2020 20:24:39 GMT"
FETCHED = "SELECT sum(requests), sum(not_modified), sum(bytes_fetched) FROM batch GROUP BY run_id ORDER BY run_id"


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


@pytest.fixture
def colors(tmp_path: Path) -> dict[str, bytes]:
    return {color: write_image(tmp_path / f"{color}.png", color).read_bytes() for color in ("red", "green", "blue")}


def labels(shop: Shop) -> list[tuple[object, ...]]:
    return shop.rows("SELECT image_key, label FROM catalog_labels WHERE rank = 1 ORDER BY image_key")


def test_a_second_run_over_unchanged_urls_gets_no_bytes_loads_no_bundle_and_writes_no_url(
    shop: Shop, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [write_image(tmp_path / f"{n}.png", "red", size=(16 + n, 16)).read_bytes() for n in range(80)]
    for number, image in enumerate(images):
        validators = {"ETag": f'"{number}"'} if number % 2 else {"Last_Modified": OLD}
        site.replies[f"/{number}.png"] = versioned(image, **validators)
    entries = [Entry(f"{number:02}", f"{site.url}/{number}.png") for number in range(80)]
    first = shop.tag(entries)
    monkeypatch.setattr(SessionCache, "get", lambda self, sha256: pytest.fail("a bundle was loaded"))
    monkeypatch.setattr("tagmill.ledger.complete._REPLACE_URL", "ON CONFLICT (nothing) DO NOTHING")  # refused by SQL
    second = shop.tag(entries)
    assert [(run.tagged, run.inferences) for run in (first, second)] == [(80, 80), (80, 0)]
    assert shop.rows(FETCHED) == [(80, 0, sum(map(len, images))), (80, 80, 0)]
    assert shop.rows("SELECT DISTINCT run_id FROM catalog_labels") == [(second.run,)]


def test_only_what_has_changed_is_sent_again(shop: Shop, site: Site, colors: dict[str, bytes]) -> None:
    site.replies["/a.png"] = versioned(colors["red"], ETag='"1"')
    site.replies["/b.png"] = versioned(colors["green"], ETag='"1"')
    site.replies["/plain.png"] = reply(body=colors["green"])
    entries = [Entry(name, f"{site.url}/{name}.png") for name in ("a", "b", "plain")]
    shop.tag(entries)
    site.replies["/a.png"] = versioned(colors["blue"], ETag='"2"')
    assert shop.tag(entries).inferences == 1
    assert labels(shop) == [("a", "blue"), ("b", "green"), ("plain", "green")]
    assert shop.tag(entries).inferences == 0
    sent = len(colors["green"])
    assert [row[1:] for row in shop.rows(FETCHED)[1:]] == [(1, len(colors["blue"]) + sent), (2, sent)]


def test_a_new_model_gets_the_bytes_of_urls_that_have_not_changed(
    shop: Shop, site: Site, colors: dict[str, bytes], tmp_path: Path
) -> None:
    site.replies["/a.png"] = versioned(colors["red"], ETag='"1"')
    entries = [Entry("a", f"{site.url}/a.png")]
    shop.tag(entries)
    shop.model = shop.register(write_classifier(tmp_path / "others.onnx", name="others"))
    assert [shop.tag(entries).inferences for _ in range(2)] == [1, 0]
    assert [row[1] for row in shop.rows(FETCHED)] == [0, 0, 1]


def test_a_presigned_url_is_known_though_its_signature_changes(
    shop: Shop, site: Site, colors: dict[str, bytes]
) -> None:
    days = [f"X-Amz-Date=2026113{day}T0Z&X-Amz-Expires=60&X-Amz-Signature={day}" for day in range(3)]
    site.replies["/etag.png"] = versioned(colors["red"], ETag='"1"', Last_Modified=OLD)
    site.replies["/date.png"] = versioned(colors["green"], Last_Modified=OLD)
    for day in days:
        entries = [Entry(name, f"{site.url}/{name}.png?{day}") for name in ("etag", "date")]
        assert shop.tag(entries).tagged == 2
    assert [row[1] for row in shop.rows(FETCHED)] == [0, 1, 1]
    # A date alone does not tell two objects apart whose URLs differ in what was left out.
    assert shop.rows("SELECT etag, last_modified FROM known_url") == [('"1"', None)]


def test_urls_with_broken_images_are_not_remembered(shop: Shop, site: Site) -> None:
    site.replies["/a.png"] = versioned(b"no image", ETag='"1"')
    entries = [Entry("a", f"{site.url}/a.png")]
    assert [shop.tag(entries).failures for _ in range(2)] == [{"not_an_image": 1}] * 2
    assert shop.rows("SELECT count(*) FROM known_url") == [(0,)]


def test_a_url_that_is_twice_in_a_batch_is_asked_for_once(shop: Shop, site: Site, colors: dict[str, bytes]) -> None:
    site.replies["/a.png"] = versioned(colors["red"], ETag='"1"')
    entries = [Entry(key, f"{site.url}/a.png") for key in "abc"]
    assert [shop.tag(entries).tagged for _ in range(2)] == [3, 3]
    assert shop.rows(FETCHED) == [(1, 0, len(colors["red"])), (1, 1, 0)]


def test_refetch_reads_files_and_urls_that_seem_unchanged(
    shop: Shop, site: Site, colors: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "RACY_SECONDS", -1.0)
    write_image(shop.folder / "file.png", "red")
    site.replies["/a.png"] = versioned(colors["green"], ETag='"1"')
    entries = [Entry("url", f"{site.url}/a.png"), Entry("file", str(shop.folder / "file.png"))]
    shop.tag(entries)
    site.replies["/a.png"] = versioned(colors["blue"], ETag='"1"')  # a server that is wrong
    assert shop.tag(entries).inferences == 0
    read: list[object] = []
    monkeypatch.setattr(Fetcher, "_read_file", lambda self, path: (read.append(path), READ_FILE(self, path))[1])
    assert shop.tag(entries, fetching=FetchOptions(refetch=True)).inferences == 1
    assert labels(shop) == [("file", "red"), ("url", "blue")]
    assert read == [str(shop.folder / "file.png")]

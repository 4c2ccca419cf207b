"""Two workers and a manifest that names each URL several times: each is fetched and inferred once."""

from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.http_site import Reply, reply
from support.http_site import Site as WebSite
from support.image_fixtures import write_image
from support.installation import Site
from support.processes import Worker

#: URLs, some of which are not found; rows of each
URLS, MISSING, ROWS = 40, 3, 10


class Shop(WebSite):
    """A web server with different images; it counts how often each is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        for number in range(URLS):
            image = write_image(folder / f"{number}.png", "red", size=(20 + number, 20))
            found = reply(404) if number < MISSING else reply(body=image.read_bytes(), Content_Type="image/png")
            self.replies[f"/{number}.png"] = self._counted(found)

    def _counted(self, send: Reply) -> Reply:
        def counted(request: BaseHTTPRequestHandler) -> None:
            self.asked[request.path] += 1
            send(request)

        return counted


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A web server with the images of a manifest."""
    server = Shop(tmp_path)
    yield server
    server.close()


def test_each_url_of_a_run_is_fetched_and_inferred_once_by_two_workers(site: Site, shop: Shop) -> None:
    site.env["TAGMILL_ALLOW_PRIVATE_HOSTS"] = "127.0.0.1"
    rows = [f"{number}-{row},{shop.url}/{number}.png" for row in range(ROWS) for number in range(URLS)]
    manifest = site.folder / "shop.csv"
    manifest.write_text("image_key,uri\n" + "\n".join(rows) + "\n")
    with (
        Worker.bare(site.env, site.folder / "one.log", "one") as one,
        Worker.bare(site.env, site.folder / "two.log", "two") as two,
    ):
        one.wait_ready()
        two.wait_ready()
        done = site.submit(manifest, "--model", "colors", "--batch-size", 4, "--wait", expect=3)
        assert "batch_tagged" in one.log
        assert "batch_tagged" in two.log
    assert shop.asked == {f"/{number}.png": 1 for number in range(URLS)}
    assert (done["images"], done["inferences"]) == (URLS * ROWS, URLS - MISSING)
    assert (done["tagged"], done["failures"]) == ((URLS - MISSING) * ROWS, {"not_found": MISSING * ROWS})
    found = {row["image_key"]: row["sha256"] or row["error_code"] for row in site.rows(done["run"])}
    assert len(found) == URLS * ROWS
    for number in range(URLS):
        assert len({found[f"{number}-{row}"] for row in range(ROWS)}) == 1
    assert site.count("SELECT count(*) FROM catalog_entry") == (URLS - MISSING) * ROWS
    assert site.count("SELECT max(attempts) FROM batch") == 1
    assert site.count("SELECT sum(requests) FROM batch") == URLS

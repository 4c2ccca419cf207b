"""Limits of hosts across real workers, as the servers count: requests at the same time, and per second."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.bundles import write_classifier
from support.http_site import Site as WebSite
from support.http_site import reply
from support.image_fixtures import write_image
from support.installation import Site
from support.processes import Worker, wait_until
from support.shop import Shop

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.fetch_options import FetchOptions, HostLimits
from tagmill.records import Entry

RATE, AT_ONCE = 20, 4


class Host:
    """A web server that takes its time, and notes when requests came and how many were under way together."""

    def __init__(self, body: bytes, seconds: float) -> None:
        self.times: list[float] = []
        self.most = self._under_way = 0
        self._body, self._seconds = body, seconds
        self._lock = threading.Lock()
        self.site = WebSite()
        self.site.replies["/a.png"] = self._answer

    def urls(self, count: int) -> list[str]:
        return [f"{self.site.url}/a.png?{number}" for number in range(count)]

    def most_in(self, seconds: float) -> int:
        """Return the most requests that came in any so many seconds."""
        return max(sum(1 for other in self.times if moment <= other < moment + seconds) for moment in self.times)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.times.append(time.monotonic())
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        time.sleep(self._seconds)
        with self._lock:
            self._under_way -= 1
        reply(body=self._body)(request)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A slow host, of which the limit of requests under way counts, and a fast one, of which the rate does."""
    body = write_image(tmp_path / "red.png", "red").read_bytes()
    started = Host(body, 0.4), Host(body, 0.0)
    yield started
    for host in started:
        host.site.close()


def test_two_workers_keep_the_limits_of_a_host_together_also_when_one_is_killed(
    site: Site, hosts: tuple[Host, Host]
) -> None:
    slow, fast = hosts
    urls = [url for pair in zip(slow.urls(48), fast.urls(48), strict=True) for url in pair]
    manifest = site.folder / "shop.csv"
    manifest.write_text("image_key,uri\n" + "".join(f"{number},{url}\n" for number, url in enumerate(urls)))
    env = site.env | {"TAGMILL_ALLOW_PRIVATE_HOSTS": "true"}
    with Worker(env, site.folder / "first.log") as first, Worker(env, site.folder / "second.log"):
        limits = ("--per-host", AT_ONCE, "--per-host-rate", RATE)
        run = site.submit(manifest, "--model", "colors", "--batch-size", 12, *limits)["run"]
        wait_until(lambda: len(slow.times) > 12, 60, "the workers to fetch")
        first.kill()
        site.wait_done(run)
    assert site.count("SELECT sum(tagged) FROM batch") == len(urls)
    assert slow.most == AT_ONCE
    assert fast.most <= AT_ONCE
    assert fast.most_in(1.0) <= 1.1 * RATE + 1 + AT_ONCE  # of which some were on their way for a while


@pytest.mark.parametrize("of_the_run", [False, True])
def test_the_lower_one_of_the_limits_of_a_run_and_of_the_settings_counts(
    sqlite_url: str, tmp_path: Path, hosts: tuple[Host, Host], of_the_run: bool
) -> None:
    (tmp_path / "shop").mkdir()
    engine = connect(sqlite_url)
    upgrade(engine)
    bundle = write_classifier(tmp_path / "colors.onnx")
    shop = Shop(engine, tmp_path / "shop", bundle, per_host=6 if of_the_run else 2)
    entries = [Entry(str(number), url) for number, url in enumerate(hosts[0].urls(12))]
    fetching = FetchOptions(limits=HostLimits(2 if of_the_run else 6))
    assert shop.tag(entries, fetching=fetching).tagged == 12
    shop.batches.close()
    engine.dispose()
    assert hosts[0].most == 2

"""Busy hosts: nothing is lost of what a host gives in the end, and no host holds up another one."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler

import pytest
from support.http_site import Reply, Site, in_turn, reply

from tagmill.outcomes import ErrorCode, ImageFailure
from worker.connections.availability import StoppedError
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.sources.host_pool import HostPool
from worker.sources.http_source import HttpReader
from worker.sources.terms import Terms


@pytest.fixture
def sites() -> Iterator[Callable[[], Site]]:
    started: list[Site] = []

    def start() -> Site:
        started.append(Site())
        return started[-1]

    yield start
    for site in started:
        site.close()


class WebPool(HostPool):
    """A pool whose downloads have one reader."""

    def __init__(self, threads: int, http: HttpReader) -> None:
        super().__init__(threads, http.paces)
        self.http = http

    def start(self, urls: list[str]) -> list[Future[str]]:
        """Start to fetch these URLs as text."""
        return self.fetch([(url, Terms()) for url in urls], lambda answer: (answer.data or b"").decode(), self.http)


@pytest.fixture
def pool() -> Iterator[Callable[..., WebPool]]:
    started: list[WebPool] = []

    def start(threads: int = 8, timeout: float = 20.0) -> WebPool:
        limits = FetchLimits(100_000, timeout, True, connections=threads)
        started.append(WebPool(threads, limits.http_reader()))
        return started[-1]

    yield start
    for found in started:
        found.shutdown()


def limited(allowed: int, seconds: float, status: int = 429, **headers: str) -> Reply:
    """Give a picture to so many requests in so many seconds, and refuse the others."""
    recent: list[float] = []
    lock = threading.Lock()

    def send(request: BaseHTTPRequestHandler) -> None:
        with lock:
            now = time.monotonic()
            recent[:] = [moment for moment in recent if now - moment < seconds]
            given = len(recent) < allowed
            if given:
                recent.append(now)
        (reply(body=b"picture") if given else reply(status, **headers))(request)

    return send


def outcomes(pool: WebPool, urls: list[str]) -> list[str]:
    """Return the bytes of each URL, or why it failed."""
    found = []
    for future in pool.start(urls):
        try:
            found.append(future.result(timeout=60))
        except ImageFailure as failure:
            found.append(f"{failure.code}: {failure.detail}")
    return found


@pytest.mark.parametrize("threads", [1, 16])
@pytest.mark.parametrize(
    ("status", "headers"), [(429, {"Retry_After": "1"}), (429, {}), (503, {})], ids=["retry-after", "429", "503"]
)
def test_no_image_of_a_host_with_a_limit_is_lost(
    sites: Callable[[], Site], pool: Callable[..., WebPool], threads: int, status: int, headers: dict[str, str]
) -> None:
    site = sites()
    # So few that a slow machine, too, asks for many more: of a host that seldom answers 503, each is a failure.
    site.replies["/a.jpg"] = limited(5, 0.5, status, **headers)
    found = outcomes(pool(threads, timeout=60.0), [f"{site.url}/a.jpg?{number}" for number in range(20)])
    assert found == ["picture"] * 20
    assert len(site.requests) < 60


def test_a_pause_that_a_host_asks_for_may_be_longer_than_the_timeout_if_it_gave_images_before(
    sites: Callable[[], Site], pool: Callable[..., WebPool]
) -> None:
    site = sites()
    site.replies["/a.jpg"] = limited(6, 3.5, Retry_After="4")
    assert outcomes(pool(timeout=2.5), [f"{site.url}/a.jpg?{number}" for number in range(10)]) == ["picture"] * 10


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "1"}], ids=["429", "retry-after"])
def test_a_host_that_only_refuses_fails_its_images_within_the_timeout(
    sites: Callable[[], Site], pool: Callable[..., WebPool], headers: dict[str, str]
) -> None:
    site = sites()
    site.replies["/a.jpg"] = reply(429, **headers)
    started = time.monotonic()
    found = outcomes(pool(timeout=2.0), [f"{site.url}/a.jpg?{number}" for number in range(60)])
    assert time.monotonic() - started < 45
    assert all(outcome.startswith("fetch_failed: ") and "HTTP 429" in outcome for outcome in found)
    assert len(site.requests) < 30


def test_an_image_that_its_host_alone_refuses_is_given_up(
    sites: Callable[[], Site], pool: Callable[..., WebPool]
) -> None:
    site = sites()
    site.replies["/a.jpg"], site.replies["/b.jpg"] = reply(429, Retry_After="0"), reply(body=b"picture")
    found = outcomes(pool(timeout=2.0), [f"{site.url}/a.jpg", *(f"{site.url}/b.jpg?{number}" for number in range(20))])
    assert found[1:] == ["picture"] * 20
    assert "HTTP 429" in found[0]


def test_an_hour_is_not_waited_for(sites: Callable[[], Site]) -> None:
    site = sites()
    site.replies["/a.jpg"] = reply(429, Retry_After="3600")
    started = time.monotonic()
    with pytest.raises(ImageFailure, match=r"HTTP 429, Retry-After 3600 s$") as caught:
        Fetcher([], FetchLimits(10, 60.0, True)).fetch(f"{site.url}/a.jpg")
    assert caught.value.code == ErrorCode.FETCH_FAILED
    assert time.monotonic() - started < 45


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_retry_after_is_waited_for(sites: Callable[[], Site], status: int) -> None:
    site = sites()
    site.replies["/a.jpg"] = in_turn(reply(status, Retry_After="1"), reply(body=b"picture"))
    started = time.monotonic()
    assert Fetcher([], FetchLimits(10, 60.0, True)).fetch(f"{site.url}/a.jpg").data == b"picture"
    assert time.monotonic() - started >= 1.0


def test_slow_and_busy_hosts_leave_threads_to_the_others(
    sites: Callable[[], Site], pool: Callable[..., WebPool]
) -> None:
    slow, busy, fast = sites(), sites(), sites()
    opened = threading.Event()

    def wait(request: BaseHTTPRequestHandler) -> None:
        opened.wait(120)
        reply(body=b"late")(request)

    slow.replies["/a.jpg"] = wait
    busy.replies["/a.jpg"] = reply(429, Retry_After="1")
    fast.replies["/a.jpg"] = reply(body=b"picture")
    web = pool(8, timeout=120.0)
    held = [web.start([f"{site.url}/a.jpg?{number}" for number in range(30)]) for site in (slow, busy)]
    found = outcomes(web, [f"{fast.url}/a.jpg?{number}" for number in range(100)])
    assert found == ["picture"] * 100
    assert not any(future.done() for future in held[1])
    opened.set()
    assert [future.result(timeout=60) for future in held[0]] == ["late"] * 30


def test_a_redirect_waits_for_the_host_that_it_leads_to(
    sites: Callable[[], Site], pool: Callable[..., WebPool]
) -> None:
    shop, images = sites(), sites()
    shop.replies["/a.jpg"] = reply(302, Location=f"{images.url}/b.jpg")
    images.replies["/b.jpg"] = limited(5, 0.5, Retry_After="1")
    assert outcomes(pool(), [f"{shop.url}/a.jpg?{number}" for number in range(12)]) == ["picture"] * 12
    assert len(shop.requests) == 12


def test_a_wait_for_a_host_is_no_stuck_image(sites: Callable[[], Site], pool: Callable[..., WebPool]) -> None:
    site = sites()
    site.replies["/a.jpg"] = in_turn(reply(429, Retry_After="3"), reply(body=b"picture"))
    web = pool(1)
    (future,) = web.start([f"{site.url}/a.jpg"])
    abandoned = 0
    while not future.done():
        abandoned += web.abandon_stuck(2.0)
        time.sleep(0.05)
    assert (future.result(), abandoned) == ("picture", 0)


def test_an_attempt_that_is_stuck_is_abandoned(sites: Callable[[], Site], pool: Callable[..., WebPool]) -> None:
    site = sites()
    release = threading.Event()
    site.replies["/a.jpg"] = lambda request: (release.wait(60), reply(body=b"late")(request))[1]
    site.replies["/b.jpg"] = reply(body=b"picture")
    web = pool(2, timeout=60.0)
    futures = web.start([f"{site.url}/a.jpg", f"{site.url}/b.jpg"])
    assert futures[1].result(timeout=60) == "picture"
    while not web.abandon_stuck(0.2):
        time.sleep(0.02)
    with pytest.raises(ImageFailure, match="timed_out"):
        futures[0].result(timeout=60)
    release.set()


def test_a_process_that_ends_does_not_wait_for_a_host(sites: Callable[[], Site], pool: Callable[..., WebPool]) -> None:
    site = sites()
    site.replies["/a.jpg"], site.replies["/b.jpg"] = reply(429, Retry_After="9"), reply(body=b"picture")
    web = pool(timeout=60.0)
    assert outcomes(web, [f"{site.url}/b.jpg"]) == ["picture"]
    futures = web.start([f"{site.url}/a.jpg?{number}" for number in range(20)])
    while not site.requests[1:]:
        time.sleep(0.01)
    web.stop_waiting()
    futures += web.start([f"{site.url}/b.jpg"])
    for future in futures:
        with pytest.raises(StoppedError):
            future.result(timeout=60)

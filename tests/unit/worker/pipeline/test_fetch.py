"""Threads that fetch: URLs do not block local files, and a thread that was abandoned changes no image."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from support.http_site import Site, reply

from tagmill.outcomes import ErrorCode
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.fetch import fetch_images
from worker.sources.fetcher import Fetched, FetchLimits
from worker.sources.host_pool import HostPool
from worker.sources.pace import Paces
from worker.sources.terms import Terms
from worker.timeout_pool import TimeoutPool

TOGETHER = 8
NO_POOL = HostPool(1, Paces())


@dataclass
class Source:
    """What a run may read, with a function for the files."""

    read: Callable[[str], Fetched]
    remote: Any = None

    def fetch(self, uri: str, terms: Terms) -> Fetched:
        return self.read(uri)


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


def test_urls_are_fetched_together_though_one_thread_reads_files(site: Site) -> None:
    meeting = threading.Barrier(TOGETHER, timeout=60)
    readers: set[str] = set()

    def send(request: BaseHTTPRequestHandler) -> None:
        meeting.wait()  # raises unless all of them are fetched at the same time
        reply(body=request.path.encode())(request)

    def fetch(uri: str) -> Fetched:
        readers.add(threading.current_thread().name)
        return Fetched(uri.encode(), None)

    site.replies.update({f"/{number}.jpg": send for number in range(TOGETHER)})
    files = TimeoutPool(1, "files")
    http = FetchLimits(1000, 60.0, True).http_reader()
    web = HostPool(TOGETHER, http.paces)
    images = [BatchImage(number, f"{site.url}/{number}.jpg") for number in range(TOGETHER)]
    images += [BatchImage(TOGETHER, "/shop/a.jpg"), BatchImage(TOGETHER + 1, f"{site.url}/none.jpg")]
    found = fetch_images(images, Source(fetch, http), files, web, web, Terms())
    files.shutdown()
    web.shutdown()
    assert [image.data for image in found] == [
        *(f"/{number}.jpg".encode() for number in range(TOGETHER)),
        b"/shop/a.jpg",
        None,
    ]
    assert (found[-1].code, readers) == (ErrorCode.NOT_FOUND, {"files"})


def test_an_unexpected_error_of_a_fetch_fails_its_image_alone() -> None:
    def fetch(uri: str) -> Fetched:
        if uri == "/b":
            raise RuntimeError("a fault of ours")
        return Fetched(uri.encode(), None)

    pool = TimeoutPool(2)
    images = [BatchImage(number, f"/{name}") for number, name in enumerate("abc")]
    found = fetch_images(images, Source(fetch), pool, NO_POOL, NO_POOL, Terms())
    pool.shutdown()
    assert (found[1].code, found[1].detail) == (ErrorCode.FETCH_FAILED, "RuntimeError: a fault of ours")
    assert [image.sha256 is not None for image in found] == [True, False, True]


def test_a_thread_that_was_abandoned_changes_its_image_no_more() -> None:
    release = threading.Event()

    def abandon() -> None:
        while not pool.abandon_stuck(0.1):
            time.sleep(0.01)

    def fetch(uri: str) -> Fetched:
        if uri == "/stuck":
            release.wait(60)
        else:
            release.set()
            time.sleep(0.3)  # the abandoned thread ends before the batch does
        return Fetched(uri.encode(), None)

    pool = TimeoutPool(1)
    images = [BatchImage(0, "/stuck"), BatchImage(1, "/next")]
    watch = threading.Thread(target=abandon)
    watch.start()
    found = fetch_images(images, Source(fetch), pool, NO_POOL, NO_POOL, Terms())
    watch.join()
    pool.shutdown()
    assert [(image.code, image.sha256, image.data) for image in found[:1]] == [(ErrorCode.TIMED_OUT, None, None)]
    assert (found[1].code, found[1].data) == (None, b"/next")

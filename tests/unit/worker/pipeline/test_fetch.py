"""Threads that fetch: URLs do not block local files, and a thread that was abandoned changes no image."""

import threading
import time

from tagmill.outcomes import ErrorCode
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.fetch import fetch_images
from worker.sources.fetcher import Fetched
from worker.timeout_pool import TimeoutPool

TOGETHER = 8


def test_urls_are_fetched_together_though_one_thread_reads_files() -> None:
    meeting = threading.Barrier(TOGETHER, timeout=10)
    readers: set[str] = set()

    def fetch(uri: str) -> Fetched:
        if uri.startswith("http"):
            meeting.wait()  # raises unless all of them are fetched at the same time
        else:
            readers.add(threading.current_thread().name)
        return Fetched(uri.encode(), None)

    files, web = TimeoutPool(1, "files"), TimeoutPool(TOGETHER, "web")
    images = [BatchImage(number, f"http://shop.example/{number}.jpg") for number in range(TOGETHER)]
    images.append(BatchImage(TOGETHER, "/shop/a.jpg"))
    found = fetch_images(images, fetch, files, web)
    files.shutdown()
    web.shutdown()
    assert [image.data for image in found] == [image.uri.encode() for image in images]
    assert readers == {"files"}


def test_an_unexpected_error_of_a_fetch_fails_its_image_alone() -> None:
    def fetch(uri: str) -> Fetched:
        if uri == "/b":
            raise RuntimeError("a fault of ours")
        return Fetched(uri.encode(), None)

    pool = TimeoutPool(2)
    images = [BatchImage(number, f"/{name}") for number, name in enumerate("abc")]
    found = fetch_images(images, fetch, pool, pool)
    pool.shutdown()
    assert (found[1].code, found[1].detail) == (ErrorCode.FETCH_FAILED, "RuntimeError: a fault of ours")
    assert [image.sha256 is not None for image in found] == [True, False, True]


def test_a_thread_that_was_abandoned_changes_its_image_no_more() -> None:
    release = threading.Event()

    def fetch(uri: str) -> Fetched:
        if uri == "/stuck":
            release.wait(30)
        else:
            release.set()
            time.sleep(0.3)  # the abandoned thread ends before the batch does
        return Fetched(uri.encode(), None)

    pool = TimeoutPool(1)
    images = [BatchImage(0, "/stuck"), BatchImage(1, "/next")]
    watch = threading.Timer(0.3, pool.abandon_stuck, (0.1,))
    watch.start()
    found = fetch_images(images, fetch, pool, pool)
    watch.join()
    pool.shutdown()
    assert [(image.code, image.sha256, image.data) for image in found[:1]] == [(ErrorCode.TIMED_OUT, None, None)]
    assert (found[1].code, found[1].data) == (None, b"/next")

"""Fetch the images of a batch, and name each by the sha256 of its bytes."""

import hashlib
import threading
from collections.abc import Callable

from tagmill.outcomes import ErrorCode
from worker.pipeline.batch_image import BatchImage
from worker.sources.fetcher import Fetched
from worker.timeout_pool import TimeoutPool

#: bytes of fetched files that one batch keeps in memory; what exceeds it is fetched again when it is decoded
KEPT_BYTES = 128 * 2**20

Fetch = Callable[[str], Fetched]


def fetch_images(images: list[BatchImage], fetch: Fetch, files: TimeoutPool, urls: TimeoutPool) -> list[BatchImage]:
    """Read the bytes of every image that has no sha256 yet.

    `files` reads local files; `urls` fetches URLs, which wait for other machines and need no core. An image that cannot
    be fetched fails; nothing is raised for it.
    """
    kept, lock = 0, threading.Lock()

    def fetch_one(image: BatchImage) -> None:
        nonlocal kept
        found = fetch(image.uri)
        image.sha256 = hashlib.sha256(found.data).hexdigest()
        image.status = found.status
        with lock:
            if kept + len(found.data) <= KEPT_BYTES:
                kept += len(found.data)
                image.data = found.data

    def failed(image: BatchImage, error: Exception) -> None:
        image.fail_with(error, ErrorCode.FETCH_FAILED)

    wanted = [image for image in images if image.sha256 is None]
    remote = [image for image in wanted if not image.local]
    # Each URL is a task of its own: it must not wait for another host.
    started = urls.start(fetch_one, failed, remote, largest=1) if remote else None
    files.run(fetch_one, failed, [image for image in wanted if image.local])
    if started is not None:
        started.results()
    return images

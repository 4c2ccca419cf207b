"""Fetch the images of a batch, and compute the sha256 of each."""

import hashlib
import threading
from collections.abc import Callable

from tagmill.outcomes import ErrorCode
from worker.pipeline.batch_image import BatchImage
from worker.sources.fetcher import Fetched
from worker.timeout_pool import TimeoutPool

#: bytes of fetched images that one batch keeps in memory; the others are fetched again to be decoded
KEPT_BYTES = 128 * 2**20

Fetch = Callable[[str], Fetched]


def fetch_images(images: list[BatchImage], fetch: Fetch, files: TimeoutPool, urls: TimeoutPool) -> list[BatchImage]:
    """Fetch every image that has no sha256 yet.

    `files` is the pool for local files, `urls` the pool for URLs, whose threads wait for other machines and need no
    core. An image that cannot be fetched fails; nothing is raised for it.
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
    # Each URL is a separate task, so that it does not wait for another host.
    started = urls.start(fetch_one, failed, remote, largest=1) if remote else None
    files.run(fetch_one, failed, [image for image in wanted if image.local])
    if started is not None:
        started.results()
    return images

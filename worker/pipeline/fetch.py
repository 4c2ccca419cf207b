"""Fetch the images of a batch, and compute the sha256 of each."""

import hashlib
import os
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

    # It only returns what it found: a thread that was abandoned, and goes on later, must change no image.
    def fetch_one(image: BatchImage) -> tuple[str, os.stat_result | None, bytes | None] | Exception:
        nonlocal kept
        found = fetch(image.uri)
        sha256 = hashlib.sha256(found.data).hexdigest()
        with lock:
            keep = kept + len(found.data) <= KEPT_BYTES
            kept += len(found.data) if keep else 0
        return sha256, found.status, found.data if keep else None

    def failed(image: BatchImage, error: Exception) -> Exception:
        return error

    wanted = [image for image in images if image.sha256 is None]
    local, remote = [image for image in wanted if image.local], [image for image in wanted if not image.local]
    # Each URL is a separate task, so that it does not wait for another host.
    started = urls.start(fetch_one, failed, remote, largest=1) if remote else None
    found = [*zip(local, files.run(fetch_one, failed, local), strict=True)]
    if started is not None:
        found += zip(remote, started.results(), strict=True)
    for image, result in found:
        if isinstance(result, Exception):
            image.fail_with(result, ErrorCode.FETCH_FAILED)
        else:
            image.sha256, image.status, image.data = result
    return images

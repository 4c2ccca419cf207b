"""Fetch the images of a batch, and compute the sha256 of each."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from tagmill.locations.schemes import is_fetched, is_stored
from tagmill.outcomes import ErrorCode
from worker.connections.availability import StoppedWaitingError
from worker.pipeline.batch_image import BatchImage
from worker.sources.download import Reader
from worker.sources.fetcher import Fetched, FileState
from worker.sources.host_pool import HostPool
from worker.sources.terms import Terms
from worker.sources.validators import Answer, Validators
from worker.timeout_pool import TimeoutPool

#: bytes of fetched images that one batch keeps in memory; the others are fetched again to be decoded
KEPT_BYTES = 128 * 2**20

Fetch = Callable[[str], Fetched]
_Found = TypeVar("_Found", Fetched, Answer)


class Source(Protocol):
    """What a run may read; see `worker.sources.fetcher.Fetcher`."""

    @property
    def remote(self) -> Reader:
        """The reader of everything that is not a file of this machine."""

    def fetch(self, uri: str, terms: Terms) -> Fetched:
        """Return the bytes at a location. Raise ImageFailure."""


def fetch_images(
    images: list[BatchImage], source: Source, files: TimeoutPool, urls: HostPool, stores: HostPool, terms: Terms
) -> list[BatchImage]:
    """Fetch every image that has no sha256 yet; each URL once. One that its server says is unchanged stays unread.

    `files` is the pool for local files. The threads of `urls` and `stores` wait for other machines and need no core.
    An image that cannot be fetched fails; nothing is raised for it. Raise StoppedWaitingError if the process is ending.
    """
    kept, lock = 0, threading.Lock()

    # These only return what they found: a thread that was abandoned, and goes on later, must change no image.
    def hashed(get: Callable[[], _Found]) -> tuple[str | None, bytes | None, _Found]:
        nonlocal kept
        found = get()
        if (data := found.data) is None:
            return None, None, found
        sha256 = hashlib.sha256(data).hexdigest()
        with lock:
            keep = kept + len(data) <= KEPT_BYTES
            kept += len(data) if keep else 0
        return sha256, data if keep else None, found

    def received(answer: Answer) -> tuple[str | None, bytes | None, Validators]:
        sha256, data, _ = hashed(lambda: answer)
        return sha256, data, answer.validators

    def read(image: BatchImage) -> tuple[str | None, bytes | None, FileState | None] | Exception:
        sha256, data, found = hashed(partial(source.fetch, image.uri, terms))
        return sha256, data, found.state

    def failed(image: BatchImage, error: Exception) -> Exception:
        return error

    wanted = [image for image in images if image.sha256 is None]
    # Each URL is a separate task, so that it does not wait for another host.
    remote: list[BatchImage] = []
    started: dict[str, Future[tuple[str | None, bytes | None, Validators]]] = {}
    for pool, is_theirs in ((urls, is_fetched), (stores, is_stored)):
        if found := [image for image in wanted if not image.local and is_theirs(image.uri)]:
            asked = {image.uri: replace(terms, known=image.known) for image in found}
            started |= zip(asked, pool.fetch(asked.items(), received, source.remote), strict=True)
            remote += found
    others = [image for image in wanted if image.uri not in started]
    for image, result in zip(others, files.run(read, failed, others), strict=True):
        if isinstance(result, Exception):
            image.fail_with(result, ErrorCode.FETCH_FAILED)
        else:
            image.sha256, image.data, image.state = result
    for image in remote:
        try:
            image.sha256, image.data, image.validators = started[image.uri].result()
            if image.sha256 is None:
                assert image.seen is not None, "it was asked for with what was seen"
                image.sha256, image.unchanged = image.seen.sha256, True
        except StoppedWaitingError:
            raise
        except Exception as error:
            image.fail_with(error, ErrorCode.FETCH_FAILED)
    return images

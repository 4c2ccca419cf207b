"""Skip what is known: files that were hashed before, and contents that every model has a result for."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from tagmill.locations import is_local
from tagmill.records import SeenFile
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.sources import stat_cache
from worker.timeout_pool import TimeoutPool

#: files whose status one thread reads in turn: handing over a single one takes longer than reading it
CHUNK = 16

#: returns the status of a file that may be read, else raises ImageFailure
Status = Callable[[str], os.stat_result]


def identify_files(images: list[BatchImage], status: Status, pool: TimeoutPool) -> list[BatchImage]:
    """Note the identity of every local file that may be read. The others stay without: reading them tells why."""

    def identify(image: BatchImage) -> None:
        image.identity = stat_cache.identity_of(image.uri, status(image.uri))

    local = [image for image in images if is_local(image.uri)]
    pool.start(identify, lambda image, error: None, local, largest=CHUNK).results()
    return images


def skip_unchanged(images: list[BatchImage], hashed: Mapping[str, str]) -> list[BatchImage]:
    """Give images whose identity is known their sha256; `hashed` maps identities to contents that lack no result."""
    for image in images:
        if image.identity is not None:
            image.sha256 = hashed.get(image.identity)
            image.unchanged = image.sha256 is not None
    return images


def find_missing(
    images: list[BatchImage], sessions: Sequence[Session], known: Collection[tuple[str, str]]
) -> list[BatchImage]:
    """Note for each content that was fetched which sessions lack a result.

    `known` holds (image sha256, model sha256). The first of several images with the same bytes stands for the others.
    """
    first: dict[str, BatchImage] = {}
    for image in images:
        if image.sha256 is None or image.unchanged:
            continue
        earlier = first.setdefault(image.sha256, image)
        if earlier is image:
            image.missing = [session for session in sessions if (image.sha256, session.sha256) not in known]
        else:
            image.twin = earlier
    return images


def seen_files(images: Sequence[BatchImage], started: float) -> list[SeenFile]:
    """Return the files to remember: those that were read, tagged, and unchanged from before to after they were read.

    `started` is when the batch began, in Unix seconds: its files were hashed later.
    """
    return [
        SeenFile(image.identity, image.sha256)
        for image in images
        if image.status is not None and image.identity is not None and image.sha256 is not None
        if (image.twin or image).code is None
        if not stat_cache.is_racy(image.status, started)
        if stat_cache.identity_of(image.uri, image.status) == image.identity
    ]

"""Skip known images: files that were hashed before, and bytes for which every model has a result."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from tagmill.locations import is_local
from tagmill.records import SeenFile
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.sources import stat_cache
from worker.timeout_pool import TimeoutPool

#: files per task of a thread: passing a single one to a thread takes longer than reading its status
CHUNK = 16

#: returns the status of a local file, or raises ImageFailure if the file may not be read
Status = Callable[[str], os.stat_result]


def identify_files(images: list[BatchImage], status: Status, pool: TimeoutPool) -> list[BatchImage]:
    """Set the identity of every local file that may be read. Others keep none; fetching them reports the reason."""

    def identify(image: BatchImage) -> None:
        image.identity = stat_cache.identity_of(image.uri, status(image.uri))

    local = [image for image in images if is_local(image.uri)]
    pool.start(identify, lambda image, error: None, local, largest=CHUNK).results()
    return images


def skip_unchanged(images: list[BatchImage], hashed: Mapping[str, str]) -> list[BatchImage]:
    """Set the sha256 of images whose file is unchanged.

    `hashed` maps identity to sha256, for bytes that lack no result.
    """
    for image in images:
        if image.identity is not None:
            image.sha256 = hashed.get(image.identity)
            image.unchanged = image.sha256 is not None
    return images


def find_missing(
    images: list[BatchImage], sessions: Sequence[Session], known: Collection[tuple[str, str]]
) -> list[BatchImage]:
    """Set which sessions lack a result for each fetched image.

    `known` holds the (image sha256, model sha256) that have one. The first of several images with the same bytes stands
    for the others, which get it as their twin.
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
    """Return the files to remember: those that were tagged and did not change while they were read.

    `started` is the time at which the batch began, in Unix seconds, before any of its files was read.
    """
    return [
        SeenFile(image.identity, image.sha256)
        for image in images
        if image.status is not None and image.identity is not None and image.sha256 is not None
        if (image.twin or image).code is None
        if not stat_cache.is_racy(image.status, started)
        if stat_cache.identity_of(image.uri, image.status) == image.identity
    ]

"""Skip what is known: local files that did not change since they were hashed, and contents that have all results.

A file is unchanged while its path, size, inode, and the times of the last change of its content (mtime) and of anything
(ctime) are the same. No program can set ctime, so neither a copy with old times nor `touch` deceives it. A file that
changed less than `RACY_SECONDS` before it was hashed is not remembered: a further change within the same tick of the
file system's clock would go unseen (git calls such index entries racy).
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.timeout_pool import TimeoutPool

#: least seconds between a file's last change and its hashing for it to be remembered
RACY_SECONDS = 2.0

#: files whose status one thread reads in turn: handing over a single one takes longer than reading it
CHUNK = 16

#: returns the status of a file that may be read, else raises ImageFailure
Status = Callable[[str], os.stat_result | None]
#: returns identity -> sha256 of the files that were hashed before, and lack no result
UnchangedFiles = Callable[[Iterable[str]], Mapping[str, str]]
#: returns the (image sha256, model sha256) pairs that have a result
KnownInferences = Callable[[Iterable[str]], Collection[tuple[str, str]]]


def skip_unchanged(
    images: list[BatchImage], status: Status, pool: TimeoutPool, unchanged_files: UnchangedFiles
) -> list[BatchImage]:
    """Give local files that did not change since they were hashed their sha256: they are neither read nor inferred.

    A file whose status cannot be read is left to be read: that tells why.
    """

    local = [image for image in images if image.local]
    for image, found in zip(
        local, pool.run(status, _unread, [image.uri for image in local], largest=CHUNK), strict=True
    ):
        image.identity = None if found is None else _identity(image.uri, found)
    identities = [image.identity for image in images if image.identity is not None]
    hashed = unchanged_files(identities) if identities else {}
    for image in images:
        image.sha256 = hashed.get(image.identity or "")
        image.unchanged = image.sha256 is not None
    return images


def remember_files(images: list[BatchImage], began: float) -> list[BatchImage]:
    """Mark the files that are the same after they were read as before, and were not changed shortly before.

    `began` is when the batch began, in Unix seconds: its files were hashed later.
    """
    for image in images:
        if image.status is not None and image.identity is not None:
            racy = max(image.status.st_mtime, image.status.st_ctime) > began - RACY_SECONDS
            image.remember = not racy and _identity(image.uri, image.status) == image.identity
    return images


def skip_known(
    images: list[BatchImage], sessions: Sequence[Session], known_inferences: KnownInferences | None = None
) -> list[BatchImage]:
    """Note for each content that was fetched which sessions lack a result; all of them if nothing is asked.

    The first of several images with the same bytes stands for the others.
    """
    first: dict[str, BatchImage] = {}
    for image in images:
        if image.sha256 is not None and not image.unchanged:
            earlier = first.setdefault(image.sha256, image)
            image.twin = None if earlier is image else earlier
    known = known_inferences(first) if known_inferences and first else ()
    for sha256, image in first.items():
        image.missing = [session for session in sessions if (sha256, session.sha256) not in known]
    return images


def _identity(path: str, status: os.stat_result) -> str:
    """Return a hash of all that tells a file from a changed one, as hex."""
    facts = f"{path}\0{status.st_size}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()


def _unread(uri: str, error: Exception) -> None:
    """Stand for the status of a file that cannot be read."""

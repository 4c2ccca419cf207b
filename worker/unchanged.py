"""Knows local files again that were hashed before, so that a second run need not read them.

A file is the same while path, size, inode, and the times of its last change of content (mtime) and of anything (ctime)
are the same. ctime cannot be set by a program, so neither a copy with old times nor `touch` deceives it. A file that
was changed less than `RACY_SECONDS` before it was hashed is not remembered: a change within the same tick of the file
system's clock would not be seen (git calls such index entries racy).
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future

from tagmill.batch_result import Outcome, PendingImage, SeenFile
from tagmill.outcome import ImageFailure

#: seconds between a file's last change and its hashing, from which on it is remembered
RACY_SECONDS = 2.0

#: returns a file's status where it may be read, else raises ImageFailure
Status = Callable[[str], os.stat_result]


def identities(images: Iterable[PendingImage], status: Status, pool: Executor) -> dict[int, str]:
    """Return position -> identity of the local files that may be read."""
    asked = [(image, pool.submit(status, image.uri)) for image in images if image.uri.startswith("/")]
    found = [(image, _result(future)) for image, future in asked]
    return {image.position: _identity(image.uri, stat) for image, stat in found if stat is not None}


def seen_files(
    images: Sequence[PendingImage],
    before: dict[int, str],
    outcomes: Sequence[Outcome],
    status: Status,
    pool: Executor,
) -> list[SeenFile]:
    """Return what to remember of a batch: the tagged files that are as they were before they were read."""
    now = time.time()
    hashed = {outcome.position: outcome.sha256 for outcome in outcomes if outcome.sha256 is not None}
    asked = [
        (image, pool.submit(status, image.uri))
        for image in images
        if image.position in hashed and image.position in before
    ]
    seen = []
    for image, future in asked:
        stat = _result(future)
        if stat is None or max(stat.st_mtime, stat.st_ctime) > now - RACY_SECONDS:
            continue
        identity = _identity(image.uri, stat)
        if identity == before[image.position]:
            seen.append(SeenFile(identity, hashed[image.position]))
    return seen


def _identity(path: str, stat: os.stat_result) -> str:
    facts = f"{path}\0{stat.st_size}\0{stat.st_ino}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()


def _result(future: Future[os.stat_result]) -> os.stat_result | None:
    try:
        return future.result()
    except ImageFailure:
        return None  # whoever reads the file says why

"""Knows local files again that were hashed before, so that a second run need not read them.

A file is the same while path, size, inode, and the times of its last change of content (mtime) and of anything (ctime)
are the same. ctime cannot be set by a program, so neither a copy with old times nor `touch` deceives it. A file that
was changed less than `RACY_SECONDS` before it was hashed is not remembered: a change within the same tick of the file
system's clock would not be seen (git calls such index entries racy).
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future

from tagmill.outcomes import ImageFailure
from tagmill.records import Outcome, PendingImage, SeenFile
from worker.sources.fetcher import is_local

#: seconds between a file's last change and its hashing, from which on it is remembered
RACY_SECONDS = 2.0

#: files that one thread looks at in a turn: handing a single one over takes longer than looking at it
GROUP = 16

#: returns a file's status where it may be read, else raises ImageFailure
Status = Callable[[str], os.stat_result]


def identities(images: Iterable[PendingImage], status: Status, pool: Executor) -> dict[int, str]:
    """Return position -> identity of the local files that may be read."""
    local = [image for image in images if is_local(image.uri)]
    found = zip(local, _statuses([image.uri for image in local], status, pool), strict=True)
    return {image.position: _identity(image.uri, stat) for image, stat in found if stat is not None}


def seen_files(
    images: Sequence[PendingImage],
    before: dict[int, str],
    statuses: dict[int, os.stat_result],
    outcomes: Sequence[Outcome],
    looked: float,
) -> list[SeenFile]:
    """Return what to remember of a batch: the tagged files that after reading (`statuses`) were as `before` it.

    `looked` is when the batch was begun, in Unix seconds: its files were hashed later.
    """
    hashed = {outcome.position: outcome.sha256 for outcome in outcomes if outcome.sha256 is not None}
    seen = []
    for image in images:
        status = statuses.get(image.position)
        if status is None or image.position not in hashed:
            continue
        fresh = max(status.st_mtime, status.st_ctime) > looked - RACY_SECONDS
        identity = _identity(image.uri, status)
        if not fresh and identity == before.get(image.position):
            seen.append(SeenFile(identity, hashed[image.position]))
    return seen


def _identity(path: str, stat: os.stat_result) -> str:
    facts = f"{path}\0{stat.st_size}\0{stat.st_ino}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()


def _statuses(paths: Sequence[str], status: Status, pool: Executor) -> list[os.stat_result | None]:
    """Return the status of each file, None where it may not be read."""
    groups = [paths[start : start + GROUP] for start in range(0, len(paths), GROUP)]
    futures = [(group, pool.submit(_look, group, status)) for group in groups]
    return [stat for group, future in futures for stat in _result(group, future)]


def _look(paths: Sequence[str], status: Status) -> list[os.stat_result | None]:
    found: list[os.stat_result | None] = []
    for path in paths:
        try:
            found.append(status(path))
        except ImageFailure:
            found.append(None)  # whoever reads the file says why
    return found


def _result(paths: Sequence[str], future: Future[list[os.stat_result | None]]) -> list[os.stat_result | None]:
    try:
        return future.result()
    except ImageFailure:
        return [None] * len(paths)  # one of them is on a drive that does not answer

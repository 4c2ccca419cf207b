"""Skip known images: local files that have not changed since they were hashed, and bytes that have all results.

A file is unchanged while its path, its size, its inode, the time of its last change of content (mtime) and the time of
its last change of any kind (ctime) are the same. Programs cannot set ctime, so a copy that keeps its times, or `touch`,
is detected. A file that changed less than `RACY_SECONDS` before it was hashed is not remembered: a second change within
the same tick of the file system's clock would not be detected (git calls such index entries racy).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.sources.fetcher import FileState
from worker.timeout_pool import TimeoutPool

#: least seconds between a file's last change and its hashing; otherwise it is not remembered
RACY_SECONDS = 2.0

#: files per task of a thread: passing a single one to a thread takes longer than reading its status
CHUNK = 16

#: returns the state of a local file, or raises ImageFailure if the file may not be read
State = Callable[[str], FileState]
#: returns identity -> sha256 of the files that were hashed before and lack no result
UnchangedFiles = Callable[[Iterable[str]], Mapping[str, str]]
#: returns the (image sha256, model sha256) pairs that have a result
KnownInferences = Callable[[Iterable[str]], Collection[tuple[str, str]]]
#: returns the sha256 of the images that were measured
MeasuredImages = Callable[[Iterable[str]], Collection[str]]


def skip_unchanged(
    images: list[BatchImage], state: State, pool: TimeoutPool, unchanged_files: UnchangedFiles | None
) -> list[BatchImage]:
    """Set the sha256 of local files that have not changed since they were hashed: they are neither read nor inferred.

    Without `unchanged_files` every file counts as changed.
    A file whose state cannot be read is not skipped: fetching it reports the reason.
    """
    local = [image for image in images if image.local]
    states = pool.run(state, _unread, [image.uri for image in local], largest=CHUNK)
    for image, found in zip(local, states, strict=True):
        image.identity = None if found is None else found.identity
    identities = [image.identity for image in images if image.identity is not None]
    hashed = unchanged_files(identities) if identities and unchanged_files else {}
    for image in images:
        image.sha256 = hashed.get(image.identity or "")
        image.unchanged = image.sha256 is not None
    return images


def remember_files(images: list[BatchImage], began: float) -> list[BatchImage]:
    """Mark the files to remember: those that did not change while they were read, or shortly before.

    `began` is the time at which the batch began, in Unix seconds, before any of its files was hashed.
    """
    for image in images:
        if image.state is not None and image.identity is not None:
            racy = image.state.changed_at > began - RACY_SECONDS
            image.remember = not racy and image.state.identity == image.identity
    return images


def skip_known(
    images: list[BatchImage],
    sessions: Sequence[Session],
    known_inferences: KnownInferences | None = None,
    measured_images: MeasuredImages | None = None,
) -> list[BatchImage]:
    """Set which sessions lack a result for each fetched image; all of them without `known_inferences`.

    With `measured_images`, also set whether the picture is to be measured.
    The first of several images with the same bytes stands for the others, which get it as their twin.
    """
    first: dict[str, BatchImage] = {}
    for image in images:
        if image.sha256 is not None and not image.unchanged:
            earlier = first.setdefault(image.sha256, image)
            image.twin = None if earlier is image else earlier
    known = known_inferences(first) if known_inferences and first else ()
    for sha256, image in first.items():
        image.missing = [session for session in sessions if (sha256, session.sha256) not in known]
    if measured_images and first:
        measured = measured_images(first)
        for sha256, image in first.items():
            image.measure = sha256 not in measured
    return images


def _unread(uri: str, error: Exception) -> None:
    """Return None as the state of a file that cannot be read."""

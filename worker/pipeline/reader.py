"""Fetch and decode the images of one batch in pools of threads."""

import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from tagmill.images.decode import decode
from tagmill.images.image import DecodedImage, DecodeLimits, Pixels
from tagmill.images.preprocess import PreprocessSpec, fit
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.records import ImageRow, Outcome, PendingImage
from worker.sources.fetcher import Fetched, is_local
from worker.threads.chunks import collect, start
from worker.threads.timeout_pool import TimeoutPool

log = logging.getLogger(__name__)

#: bytes of fetched files that one batch keeps in memory; what is over is fetched again when it is decoded
KEPT_BYTES = 128 * 2**20

Fetch = Callable[[str], Fetched]
#: `tagmill.images.decode.decode`, or what does the same elsewhere
Decode = Callable[[bytes, int, DecodeLimits], DecodedImage]


@dataclass(frozen=True)
class FetchedImage:
    """A file's identity and, unless the batch already holds too much, its bytes."""

    position: int
    uri: str
    sha256: str
    data: bytes | None
    #: of a local file, after it was read
    status: os.stat_result | None


@dataclass(frozen=True)
class ReadImage:
    """One image as the models read it: uint8 [height, width, 3] for each distinct spec."""

    row: ImageRow
    inputs: dict[PreprocessSpec, Pixels]


@dataclass(frozen=True)
class _Wanted:
    """A fetched image and where its pixels go: uint8 [height, width, 3] for each spec."""

    image: FetchedImage
    inputs: dict[PreprocessSpec, Pixels]


class BatchReader:
    """Reads one batch. A bad image becomes an Outcome in place of its result; nothing is raised for it."""

    def __init__(
        self,
        pool: TimeoutPool,
        fetch: Fetch,
        limits: DecodeLimits,
        fetchers: TimeoutPool | None = None,
        decode: Decode = decode,
    ) -> None:
        """`pool` reads files and decodes. URLs, which are waited for, are fetched by `fetchers` if there are any."""
        self._pool = pool
        self._fetchers = fetchers or pool
        self._fetch = fetch
        self._decode = decode
        self._limits = limits
        self._kept = 0
        self._lock = threading.Lock()

    def fetch(self, images: Iterable[PendingImage]) -> list[FetchedImage | Outcome]:
        """Fetch every image and name it by its bytes."""
        wanted = list(images)
        here = [image for image in wanted if is_local(image.uri)]
        away = [image for image in wanted if not is_local(image.uri)]
        # A URL has a task of its own: it waits for nobody.
        groups = start(self._fetchers, self._fetch_one, _not_fetched, away, largest=1)
        groups += start(self._pool, self._fetch_one, _not_fetched, here)
        return sorted(collect(groups), key=attrgetter("position"))

    def decode(
        self, images: Sequence[FetchedImage], specs: dict[str, set[PreprocessSpec]]
    ) -> list[ReadImage | Outcome]:
        """Decode each image once for the specs that `specs` asks for its sha256.

        The inputs of one spec lie one after the other in one array, in the order of `images`.
        """
        counts = Counter(spec for image in images for spec in specs[image.sha256])
        rooms = {spec: iter(np.empty((n, spec.height, spec.width, 3), np.uint8)) for spec, n in counts.items()}
        wanted = [_Wanted(image, {spec: next(rooms[spec]) for spec in specs[image.sha256]}) for image in images]
        return collect(start(self._pool, self._decode_one, _not_decoded, wanted))

    def _fetch_one(self, image: PendingImage) -> FetchedImage | Outcome:
        found = self._fetch(image.uri)
        sha256 = hashlib.sha256(found.data).hexdigest()
        with self._lock:
            keep = self._kept + len(found.data) <= KEPT_BYTES
            self._kept += len(found.data) if keep else 0
        return FetchedImage(image.position, image.uri, sha256, found.data if keep else None, found.status)

    def _decode_one(self, wanted: _Wanted) -> ReadImage | Outcome:
        image = wanted.image
        data = image.data if image.data is not None else self._fetch(image.uri).data
        if image.data is None and hashlib.sha256(data).hexdigest() != image.sha256:
            raise ImageFailure(ErrorCode.FETCH_FAILED, "the file changed while it was read")
        row = None
        for side in sorted({spec.decode_side for spec in wanted.inputs}):
            picture = self._decode(data, side, self._limits)
            row = ImageRow(image.sha256, picture.width, picture.height, picture.format, len(data))
            for spec, out in wanted.inputs.items():
                if spec.decode_side == side:
                    fit(picture.rgb, spec, out)
        assert row is not None, "an image is decoded for at least one spec"
        return ReadImage(row, wanted.inputs)


def _not_fetched(image: PendingImage, error: Exception) -> Outcome:
    return _outcome(image.position, error, ErrorCode.FETCH_FAILED)


def _not_decoded(wanted: _Wanted, error: Exception) -> Outcome:
    return _outcome(wanted.image.position, error, ErrorCode.CORRUPT)


def _outcome(position: int, error: Exception, unforeseen: ErrorCode) -> Outcome:
    if isinstance(error, ImageFailure):  # of the image, or of a pool that gave it up
        return Outcome(position, error_code=error.code, error_detail=error.detail)
    if isinstance(error, MemoryError):
        return Outcome(position, error_code=ErrorCode.OUT_OF_MEMORY, error_detail="no memory to decode it")
    # A fault of ours or of a decoder: it must not take the whole batch along.
    log.error("image failed", extra={"action": "image_failed", "position": position}, exc_info=error)
    return Outcome(position, error_code=unforeseen, error_detail=f"{type(error).__name__}: {error}"[:300])

"""Fetch and decode the images of one batch in pools of threads."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TypeVar

from tagmill.batch_result import ImageRow, Outcome, PendingImage
from tagmill.outcome import ErrorCode, ImageFailure
from tagmill.picture import DecodeLimits, Pixels
from tagmill.preprocess import PreprocessSpec, decode, fit
from worker.fetch import Fetched, is_local

log = logging.getLogger(__name__)

#: bytes of fetched files that one batch keeps in memory; what is over is fetched again when it is decoded
KEPT_BYTES = 128 * 2**20

Fetch = Callable[[str], Fetched]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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
class DecodedImage:
    """One picture as the models read it: uint8 [height, width, 3] for each distinct spec."""

    row: ImageRow
    inputs: dict[PreprocessSpec, Pixels]


class BatchReader:
    """Reads one batch. A bad image becomes an Outcome in place of its result; nothing is raised for it."""

    def __init__(self, pool: Executor, fetch: Fetch, limits: DecodeLimits, fetchers: Executor | None = None) -> None:
        """`pool` reads files and decodes. URLs, which are waited for, are fetched by `fetchers` if there are any."""
        self._pool = pool
        self._fetchers = fetchers or pool
        self._fetch = fetch
        self._limits = limits
        self._kept = 0
        self._lock = threading.Lock()

    def fetch(self, images: Iterable[PendingImage]) -> list[FetchedImage | Outcome]:
        """Fetch every image and name it by its bytes."""
        wanted = [(image.position, image) for image in images]

        def pool(image: PendingImage) -> Executor:
            return self._pool if is_local(image.uri) else self._fetchers

        return self._each(self._fetch_one, wanted, ErrorCode.FETCH_FAILED, pool)

    def decode(
        self, images: Sequence[FetchedImage], specs: dict[str, set[PreprocessSpec]]
    ) -> list[DecodedImage | Outcome]:
        """Decode each image once for the specs that `specs` asks for its sha256."""
        wanted = [(image.position, image) for image in images]

        def decode_one(image: FetchedImage) -> DecodedImage:
            return self._decode_one(image, specs[image.sha256])

        return self._each(decode_one, wanted, ErrorCode.CORRUPT, lambda _: self._pool)

    def _each(
        self,
        work: Callable[[_Item], _Result],
        items: Sequence[tuple[int, _Item]],
        unforeseen: ErrorCode,
        pool: Callable[[_Item], Executor],
    ) -> list[_Result | Outcome]:
        def result(position: int, future: Future[_Result]) -> _Result | Outcome:
            try:
                return future.result()
            except ImageFailure as failure:  # of the image, or of a pool that gave it up
                return Outcome(position, error_code=failure.code, error_detail=failure.detail)
            except MemoryError:
                return Outcome(position, error_code=ErrorCode.OUT_OF_MEMORY, error_detail="no memory to decode it")
            except Exception as error:  # a fault of ours or of a decoder: it must not take the whole batch along
                log.exception("image failed", extra={"action": "image_failed", "position": position})
                return Outcome(position, error_code=unforeseen, error_detail=f"{type(error).__name__}: {error}"[:300])

        futures = [(position, pool(item).submit(work, item)) for position, item in items]
        return [result(position, future) for position, future in futures]

    def _fetch_one(self, image: PendingImage) -> FetchedImage:
        found = self._fetch(image.uri)
        sha256 = hashlib.sha256(found.data).hexdigest()
        with self._lock:
            keep = self._kept + len(found.data) <= KEPT_BYTES
            self._kept += len(found.data) if keep else 0
        return FetchedImage(image.position, image.uri, sha256, found.data if keep else None, found.status)

    def _decode_one(self, image: FetchedImage, specs: set[PreprocessSpec]) -> DecodedImage:
        data = image.data if image.data is not None else self._fetch(image.uri).data
        if image.data is None and hashlib.sha256(data).hexdigest() != image.sha256:
            raise ImageFailure(ErrorCode.FETCH_FAILED, "the file changed while it was read")
        inputs: dict[PreprocessSpec, Pixels] = {}
        row = None
        for side in sorted({spec.decode_side for spec in specs}):
            picture = decode(data, side, self._limits)
            row = ImageRow(image.sha256, picture.width, picture.height, picture.format, len(data))
            inputs |= {spec: fit(picture.rgb, spec) for spec in specs if spec.decode_side == side}
        assert row is not None, "an image is decoded for at least one spec"
        return DecodedImage(row, inputs)

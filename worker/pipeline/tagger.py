"""From the locations of a batch's images to the rows that are written for it; no ledger, no broker."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, InferenceRow, Outcome, PendingImage
from tagmill.settings import Settings
from worker.inference.dynamic_batching import DynamicBatcher
from worker.inference.session import Session
from worker.inference.session_cache import SessionCache
from worker.pipeline.infer import tag_images
from worker.pipeline.reader import BatchReader, Decode, FetchedImage, ReadImage
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.threads.timeout_pool import TimeoutPool

_Read = TypeVar("_Read", FetchedImage, ReadImage)
#: asks which (image sha256, model sha256) of these images have a result already
Known = Callable[[set[str]], set[tuple[str, str]]]


@dataclass(frozen=True)
class Tagged:
    """A batch's result, position -> status of the local files read, and the milliseconds that its stages took."""

    result: BatchResult
    statuses: dict[int, os.stat_result]
    read_ms: float
    infer_ms: float


class Tagger:
    """The sessions, threads and limits of one process."""

    def __init__(self, settings: Settings, sessions: SessionCache, pool: TimeoutPool) -> None:
        """`pool` reads files and decodes."""
        self.sessions = sessions
        self._mergers: dict[str, DynamicBatcher] = {}
        # The calls of one batch, side by side: a last or only batch has the machine to itself.
        self._callers = TimeoutPool(os.cpu_count() or 1, "infer")
        #: threads that wait for other machines, and take no core meanwhile
        self.fetchers = TimeoutPool(settings.fetch_threads, "fetch")
        self._pool = pool
        self._decode = _decoder(settings)
        self._decode_limits = DecodeLimits(settings.max_image_pixels, settings.max_image_frames)
        limits = FetchLimits(
            settings.max_image_bytes, settings.fetch_timeout, settings.allow_private_hosts, settings.fetch_threads
        )
        #: by the folders that a run may read
        self.fetcher = lru_cache(maxsize=16)(
            lambda roots: Fetcher([*settings.allowed_roots, *map(Path, roots)], limits)
        )

    def tag(
        self, images: Sequence[PendingImage], models: Sequence[str], roots: tuple[str, ...], known: Known
    ) -> Tagged:
        """Fetch, decode and infer. A bad image is an outcome; raises BundleError, and what `known` raises."""
        started = time.perf_counter()
        sessions = [self.sessions.get(sha256) for sha256 in models]
        reader = BatchReader(self._pool, self.fetcher(roots).fetch, self._decode_limits, self.fetchers, self._decode)
        fetched, outcomes = _split(reader.fetch(images))
        missing = _missing(fetched, sessions, known({image.sha256 for image in fetched}))
        distinct = {image.sha256: image for image in fetched if image.sha256 in missing}
        specs = {sha256: {session.spec.preprocess for session in wanted} for sha256, wanted in missing.items()}
        decoded, undecodable = _split(reader.decode(list(distinct.values()), specs))
        read = time.perf_counter()
        rows, failed = self._infer(decoded, sessions, missing)
        failed |= _failures_by_sha256(undecodable, distinct.values())
        outcomes += [_outcome(image, failed) for image in fetched]
        result = BatchResult(outcomes, [image.row for image in decoded], rows)
        statuses = {image.position: image.status for image in fetched if image.status is not None}
        return Tagged(result, statuses, _milliseconds(read - started), _milliseconds(time.perf_counter() - read))

    def _infer(
        self, decoded: Sequence[ReadImage], sessions: Sequence[Session], missing: dict[str, list[Session]]
    ) -> tuple[list[InferenceRow], dict[str, tuple[ErrorCode, str]]]:
        rows: list[InferenceRow] = []
        failed: dict[str, tuple[ErrorCode, str]] = {}
        for session in sessions:
            images = [image for image in decoded if session in missing[image.row.sha256]]
            tagged = tag_images(session, images, session.best_batch, self._merger(session).run, self._callers)
            rows += tagged.rows
            failed |= tagged.failed
        return rows, failed

    def close(self) -> None:
        """End the threads."""
        self._callers.shutdown()
        self.fetchers.shutdown()

    def _merger(self, session: Session) -> DynamicBatcher:
        """Return the one place where all batches of this process call a session."""
        merger = DynamicBatcher(partial(session.run, best_only=True), session.parallel)
        return self._mergers.setdefault(session.sha256, merger)


def _decoder(settings: Settings) -> Decode:
    if not settings.decode_on_gpu:
        return decode
    from worker.pipeline.gpu_jpeg_decoder import (
        gpu_jpeg_decoder,  # with ONNX Runtime, which nothing may load before a fork
    )

    return gpu_jpeg_decoder(settings.device, settings.gpu_memory).decode


def _split(results: Iterable[_Read | Outcome]) -> tuple[list[_Read], list[Outcome]]:
    read: list[_Read] = []
    outcomes: list[Outcome] = []
    for result in results:
        if isinstance(result, Outcome):
            outcomes.append(result)
        else:
            read.append(result)
    return read, outcomes


def _missing(
    fetched: Iterable[FetchedImage], sessions: Sequence[Session], known: set[tuple[str, str]]
) -> dict[str, list[Session]]:
    """Return, for each sha256 that lacks a result, the sessions to run."""
    wanted = {
        image.sha256: [session for session in sessions if (image.sha256, session.sha256) not in known]
        for image in fetched
    }
    return {sha256: lacking for sha256, lacking in wanted.items() if lacking}


def _failures_by_sha256(
    outcomes: Iterable[Outcome], images: Iterable[FetchedImage]
) -> dict[str, tuple[ErrorCode, str]]:
    sha256_at = {image.position: image.sha256 for image in images}
    return {
        sha256_at[outcome.position]: (outcome.error_code, outcome.error_detail or "")
        for outcome in outcomes
        if outcome.error_code is not None
    }


def _outcome(image: FetchedImage, failed: dict[str, tuple[ErrorCode, str]]) -> Outcome:
    code, detail = failed.get(image.sha256, (None, None))
    return Outcome(image.position, None if code else image.sha256, code, detail)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)

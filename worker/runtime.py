"""What one worker process holds: engine, sessions, decode pool and heartbeat; and its way through one batch."""

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from tagmill import ledger
from tagmill.broker import BatchMessage
from tagmill.database import connect
from tagmill.errors import TagmillError
from tagmill.ledger import BatchResult, Claim, InferenceRow, Outcome
from tagmill.outcome import ErrorCode
from tagmill.preprocess import DecodeLimits
from tagmill.settings import Settings
from worker.fetch import Fetcher, FetchLimits
from worker.heartbeat import Heartbeat
from worker.reader import BatchReader, DecodedImage, FetchedImage
from worker.session import Session
from worker.sessions import BundleFiles, Sessions
from worker.tagging import tag_images

log = logging.getLogger(__name__)
_Read = TypeVar("_Read", FetchedImage, DecodedImage)

#: seconds before a batch that failed as a whole is tried again; doubled with each attempt
RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds each stage of a batch took."""

    read_ms: float
    infer_ms: float
    write_ms: float


class Runtime:
    """Built once a process, after any fork, and used from all its threads."""

    def __init__(self, settings: Settings, files: BundleFiles) -> None:
        cores = os.cpu_count() or 1
        self.settings = settings
        self.engine = connect(settings.database_url)
        threads = settings.inference_threads or max(1, cores // settings.concurrency)
        self.sessions = Sessions(files, settings.device, threads)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._pool = ThreadPoolExecutor(settings.decode_threads or cores, thread_name_prefix="decode")
        self._heartbeat = Heartbeat(self.engine, settings.lease_seconds)
        self._decode_limits = DecodeLimits(settings.max_image_pixels)
        limits = FetchLimits(settings.max_image_bytes, settings.fetch_timeout, settings.allow_private_hosts)
        self._fetcher = lru_cache(maxsize=16)(
            lambda roots: Fetcher([*settings.allowed_roots, *map(Path, roots)], limits)
        )

    def process(self, message: BatchMessage) -> None:
        """Tag one batch. A message for a batch that is done or taken is dropped; that is normal on Redis."""
        token = f"{self.name}:{uuid.uuid4().hex}"
        claimed = ledger.claim(
            self.engine, message.batch, token, self.settings.lease_seconds, self.settings.max_attempts
        )
        if claimed is None:
            log.info("batch not free", extra={"action": "batch_dropped", "batch": message.batch})
            return
        with self._heartbeat.holding(token):
            try:
                self._tag(claimed)
            except (OperationalError, InterfaceError):
                raise  # the database is down: the lease ends by itself
            except TagmillError as error:
                self._give_back(claimed, error)
                log.error(
                    "batch failed", extra={"action": "batch_failed", "batch": message.batch, "reason": str(error)}
                )
            except Exception as error:
                self._give_back(claimed, error)
                raise

    def close(self) -> None:
        """End the threads and connections."""
        self._heartbeat.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.engine.dispose()

    def _give_back(self, claimed: Claim, error: Exception) -> None:
        delay = RETRY_SECONDS * 2 ** (claimed.attempts - 1)
        ledger.release(self.engine, claimed, f"{type(error).__name__}: {error}", delay)

    def _tag(self, claimed: Claim) -> None:
        started = time.perf_counter()
        sessions = [self.sessions.get(sha256) for sha256 in claimed.models]
        reader = BatchReader(self._pool, self._fetcher(claimed.roots).fetch, self._decode_limits)
        fetched, outcomes = _split(reader.fetch(claimed.images))
        known = ledger.known_inferences(self.engine, {image.sha256 for image in fetched}, claimed.models)
        missing = _missing(fetched, sessions, known)
        distinct = {image.sha256: image for image in fetched if image.sha256 in missing}
        specs = {sha256: {session.spec.preprocess for session in wanted} for sha256, wanted in missing.items()}
        decoded, undecodable = _split(reader.decode(list(distinct.values()), specs))
        read = time.perf_counter()
        rows, failed = self._infer(decoded, sessions, missing)
        inferred = time.perf_counter()
        failed |= _failures_by_sha256(undecodable, distinct.values())
        outcomes += [_outcome(image, failed) for image in fetched]
        result = BatchResult(outcomes, [image.row for image in decoded], rows)
        written = ledger.complete(self.engine, claimed, result, self.name)
        times = StageTimes(
            *(round(1000 * span, 1) for span in (read - started, inferred - read, time.perf_counter() - inferred))
        )
        _log_batch(claimed, result, written, times)

    def _infer(
        self, decoded: Sequence[DecodedImage], sessions: Sequence[Session], missing: dict[str, list[Session]]
    ) -> tuple[list[InferenceRow], dict[str, tuple[ErrorCode, str]]]:
        rows: list[InferenceRow] = []
        failed: dict[str, tuple[ErrorCode, str]] = {}
        for session in sessions:
            images = [image for image in decoded if session in missing[image.row.sha256]]
            tagged = tag_images(session, images, self.settings.inference_batch)
            rows += tagged.rows
            failed |= {sha256: (ErrorCode.INFERENCE_FAILED, reason) for sha256, reason in tagged.failed.items()}
        return rows, failed


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


def _log_batch(claimed: Claim, result: BatchResult, written: bool, times: StageTimes) -> None:
    failures = sum(1 for outcome in result.outcomes if outcome.error_code)
    fields = {
        "action": "batch_tagged" if written else "batch_lost",
        "run": claimed.run_id,
        "batch": claimed.batch_id,
        "images": len(result.outcomes),
        "failed": failures,
        "inferences": len(result.inferences),
        **vars(times),
    }
    log.info("batch tagged" if written else "batch was taken over; results dropped", extra=fields)

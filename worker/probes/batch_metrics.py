"""Count what becomes of batches and images, and how long their stages take."""

import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from tagmill.errors import BundleError, ConfigurationError, DeviceLostError
from tagmill.ledger.batches.leases import Claim
from tagmill.outcomes import ErrorCode, ImageStatus
from tagmill.records import BatchResult
from worker.connections.availability import StoppedError
from worker.health.health import FolderError

#: seconds of a stage: 64 images take milliseconds to decode on many cores, and wait for hours behind a backfill
STAGE_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 10800.0, 43200.0),
)
#: images of a batch
FILL = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 256, 512, 1024)
#: why an attempt ended without a result, by its error; others are `failed`
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (StoppedError, "stopped"),
    (FolderError, "folder"),
    (BundleError, "bundle"),
    (DeviceLostError, "device"),
    (ConfigurationError, "device"),
    (MemoryError, "memory"),
    (OSError, "system"),
)


class BatchMetrics:
    """The counters of one process. Safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Counter("tagmill_images", "Images with an outcome.", ["model", "status"], registry=registry)
        self._errors = Counter("tagmill_image_errors", "Images that failed.", ["code"], registry=registry)
        self._stages = Histogram(
            "tagmill_stage_duration_seconds",
            "Seconds that a stage of a batch took; `queue`: from its publication to its claim.",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=registry,
        )
        self._fill = Histogram("tagmill_batch_images", "Images of a batch.", buckets=FILL, registry=registry)
        lost = "Batches that another worker took over: their results were dropped."
        self._lost = Counter("tagmill_leases_lost", lost, registry=registry)
        retries = "Attempts that ended without a result: the batch is tried again."
        self._retries = Counter("tagmill_retries", retries, ["reason"], registry=registry)
        # A series that begins with its first event shows no increase for it.
        for code in ErrorCode:
            self._errors.labels(code)
        for reason in {"failed", *(reason for _, reason in _REASONS)}:
            self._retries.labels(reason)
        #: token of a claim in work -> its images
        self._running: dict[str, int] = {}
        #: when a batch was claimed last, in monotonic seconds
        self.claimed_at = time.monotonic()
        #: when results were written last, in Unix seconds; 0 before that
        self.written_at = 0.0
        #: sha256 -> NAME@VERSION, of the models of runs, and of the shadows and canaries beside them
        self.models: dict[str, str] = {}
        self._lock = threading.Lock()

    def in_work(self) -> tuple[int, int]:
        """Return the batches and the images that are in work."""
        with self._lock:
            return len(self._running), sum(self._running.values())

    @contextmanager
    def batch(self, claimed: Claim) -> Iterator[None]:
        """Count a claim as in work during the block, and as a retry if the block raises."""
        with self._lock:
            self._running[claimed.token] = len(claimed.images)
            self.claimed_at = time.monotonic()
            self.models |= {model.sha256: model.name for model in claimed.pinned}
            self.models |= {trial.rollout.sha256: trial.rollout.title for trial in claimed.trials}
        try:
            yield
        except BaseException as error:
            self._retries.labels(_reason(error)).inc()
            raise
        finally:
            with self._lock:
                del self._running[claimed.token]

    def done(self, claimed: Claim, result: BatchResult, written: bool, stages: dict[str, float]) -> None:
        """Count the outcomes of a batch, once they are in SQL, and the seconds of its stages.

        Those of a batch that was taken over (not `written`) are counted where it was taken to.
        """
        if not written:
            self._lost.inc()
            return
        self.written_at = time.time()
        self._fill.observe(len(result.outcomes))
        self._stages.labels("queue").observe(max(claimed.waited, 0.0))
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)
        codes = Tally(outcome.error_code for outcome in result.outcomes)
        tagged = codes.pop(None, 0)
        for code, images in codes.items():
            self._errors.labels(code).inc(images)
        for model in claimed.pinned:
            self._images.labels(model.name, ImageStatus.TAGGED).inc(tagged)
            self._images.labels(model.name, ImageStatus.FAILED).inc(codes.total())
        tried = Tally(inference.model_sha256 for inference in result.inferences) if claimed.trials else {}
        for trial in claimed.trials:
            self._images.labels(trial.rollout.title, ImageStatus.TAGGED).inc(tried.get(trial.rollout.sha256, 0))


def _reason(error: BaseException) -> str:
    """Return why an attempt ended; `worker.batch.BatchFailedError` has its error as the cause."""
    causes = (error, error.__cause__)
    return next((reason for kind, reason in _REASONS if any(isinstance(one, kind) for one in causes)), "failed")

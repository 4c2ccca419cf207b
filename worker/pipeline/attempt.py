"""One attempt at a batch: what its stages note, the writing of its results, and what is said of them."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from tagmill.ledger.batches.leases import Claim
from tagmill.records import BatchResult, Outcome, SeenFile, SeenUrl, Spent
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.trials import BatchTrials
from worker.sources.terms import Terms

log = logging.getLogger(__name__)

#: writes the result of a claim to SQL; returns False if another worker has taken the batch over
Complete = Callable[[Claim, BatchResult], bool]


@dataclass(frozen=True)
class Written:
    """The end of an attempt."""

    result: BatchResult
    #: whether the result is in SQL: not if another worker has taken the batch over
    stored: bool
    #: the start of the attempt and the ends of reading, inference and writing, by `time.perf_counter`
    times: Sequence[float]
    #: what Celery's events show of it, as JSON values
    report: dict[str, Any]


@dataclass(eq=False)
class Attempt:
    """A claimed batch in work. Its stages note here what is not of one image."""

    claimed: Claim
    #: how its images are fetched; they count the requests
    terms: Terms
    #: the shadows and canaries that it runs
    trials: BatchTrials | None
    #: returns the seconds of cores and of the GPU that it took since the last call
    taken: Callable[[], tuple[float, float]]
    #: when its first stage began, by `time.perf_counter`
    started: float = 0.0
    #: when its images were decoded, by the same clock; None if none had to be
    decoded: float | None = None
    #: seconds of the stages that it went through
    stages: dict[str, float] = field(default_factory=dict)
    #: its end, once it has written
    written: Written | None = None

    def write(self, images: Sequence[BatchImage], complete: Complete) -> Written:
        """Write what became of the images to SQL, and log it."""
        claimed, traffic, inferred = self.claimed, self.terms.traffic, time.perf_counter()
        result = to_result(images)
        spent = Spent(traffic.requests, traffic.not_modified, traffic.bytes_fetched, *self.taken())
        result = replace(result, spent=spent)
        if self.trials:
            result.canaries.extend(self.trials.shown(images))
        began = time.perf_counter()
        stored = complete(claimed, result)
        times = (self.started, self.decoded or self.started, inferred, time.perf_counter())
        self.stages["write"] = times[-1] - began
        read, infer, write = (round(1000 * (end - start), 1) for start, end in pairwise(times))
        failed = Counter(str(outcome.error_code) for outcome in result.outcomes if outcome.error_code)
        fields: dict[str, Any] = {"images": len(images), "failed": failed.total(), "inferences": len(result.inferences)}
        fields |= {"read_ms": read, "infer_ms": infer, "write_ms": write}
        report: dict[str, Any] = {
            "run": claimed.run_id,
            "batch": claimed.batch_id,
            "model": claimed.model,
            "images": len(images),
        }
        if stored:
            log.info("batch tagged", extra={"action": "batch_tagged", **fields})
            report |= {"tagged": len(images) - failed.total(), "failed": dict(failed)}
        else:
            log.info("batch was taken over; results dropped", extra={"action": "batch_lost", **fields})
            report |= {"dropped": "taken over by another worker"}
        self.written = Written(result, stored, times, report)
        return self.written


def to_result(images: Iterable[BatchImage]) -> BatchResult:
    """Return the result that the ledger writes for these images."""
    result = BatchResult([], [], [])
    for image in images:
        source = image.twin or image
        sha256 = None if source.code else image.sha256
        result.outcomes.append(Outcome(image.position, sha256, source.code, source.detail))
        result.inferences.extend(image.answers)
        if image.facts is not None:
            result.images.append(image.facts)
        if image.picture is not None:
            result.pictures.append(image.picture)
        if image.remember and image.identity is not None and sha256 is not None:
            if image.local:
                result.files.append(SeenFile(image.identity, sha256))
            else:
                found = image.validators
                result.urls.append(SeenUrl(image.identity, sha256, found.etag, found.last_modified))
    return result

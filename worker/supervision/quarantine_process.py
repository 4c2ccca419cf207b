"""The process in which suspected images are tagged: `python -m worker.supervision.quarantine_process`, told by JSON lines on stdin.

The first line holds the settings, the bundle files and the folders that may be read. The answer is `{"ready": true}`
or `{"error": reason}`. Each further line is a list of [position, uri]; its answer is the result of these images. When
this process dies, the one that asked knows by which images.
"""

import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tagmill import logs
from tagmill.errors import BundleError, TagmillError
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, ImageRow, InferenceRow, Mask, Outcome, PendingImage
from tagmill.settings import Settings
from worker.inference.session_cache import SessionCache
from worker.pipeline.tagger import Tagger
from worker.supervision.memory import memory_limit
from worker.supervision.process import ProcessEnd, end_with_parent
from worker.supervision.watchdog import RecycleReason, Watchdog
from worker.threads.timeout_pool import TimeoutPool


@dataclass(frozen=True)
class _Files:
    """The bundle files that were named, by sha256."""

    files: dict[str, str]

    def path(self, sha256: str) -> Path:
        if sha256 not in self.files:
            raise BundleError(f"bundle {sha256[:12]} is not among those of this batch")
        return Path(self.files[sha256])


def result_from_json(data: dict[str, Any]) -> BatchResult:
    """Return what `asdict` and JSON made of a BatchResult."""
    return BatchResult(
        [_outcome(row) for row in data["outcomes"]],
        [ImageRow(**row) for row in data["images"]],
        [_inference(row) for row in data["inferences"]],
    )


def _outcome(row: dict[str, Any]) -> Outcome:
    code = row["error_code"]
    return Outcome(**row | {"error_code": None if code is None else ErrorCode(code)})


def _inference(row: dict[str, Any]) -> InferenceRow:
    labels = tuple((str(name), float(score)) for name, score in row["labels"])
    masks = tuple(Mask(**mask | {"box": tuple(mask["box"])}) for mask in row["masks"])
    return InferenceRow(**row | {"labels": labels, "masks": masks})


def main() -> None:
    """Answer until stdin ends."""
    end_with_parent(signal.SIGKILL)
    _prefer_oom_kill()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    logs.configure(os.environ.get("TAGMILL_LOG_LEVEL", "INFO"))
    logging.getLogger(__name__).info("ready to tag suspects", extra={"action": "quarantine_started"})
    setup = json.loads(sys.stdin.readline())
    settings = Settings(**setup["settings"])
    pool = TimeoutPool(settings.decode_threads or os.cpu_count() or 1)
    tagger = Tagger(settings, SessionCache(settings, _Files(setup["bundles"])), pool)
    limit = memory_limit(settings.max_worker_memory)
    Watchdog([pool, tagger.fetchers], tagger.sessions, settings.stall_seconds, limit, _end, last_resort=True)
    try:
        for sha256 in setup["bundles"]:
            tagger.sessions.get(sha256)
    except TagmillError as error:
        _answer(answers, {"error": str(error)})
        return
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        images = [PendingImage(*entry) for entry in json.loads(line)]
        tagged = tagger.tag(images, tuple(setup["bundles"]), tuple(setup["roots"]), lambda shas: set())
        _answer(answers, asdict(tagged.result))
    os._exit(0)  # past a thread that may be stuck


def _answer(answers: Any, data: dict[str, Any]) -> None:
    print(json.dumps(data), file=answers, flush=True)


def _end(reason: RecycleReason) -> None:
    # A thread that is lost does no harm here: this process ends with the batch.
    if reason is RecycleReason.MEMORY:
        os._exit(ProcessEnd.OUT_OF_MEMORY)


def _prefer_oom_kill() -> None:
    """Offer this process, not the worker, to a kernel that is out of memory."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass  # not Linux


if __name__ == "__main__":
    main()

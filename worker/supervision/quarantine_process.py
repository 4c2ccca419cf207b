"""The process that tags suspect images: `python -m worker.supervision.quarantine_process`.

It reads requests as JSON lines from stdin and answers on stdout. The first holds the settings, the bundle files, the
folders that may be read and the limits of hosts; its answer is `{"ready": true}` or `{"error": reason}`. Each further
request is a list of [position, uri]; its answer holds their outcomes as `images`, and the counts of their requests as
`traffic`. If this process dies, the worker knows which images it had.
"""

import base64
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tagmill.errors import TagmillError
from tagmill.fetch_options import HostLimits
from tagmill.logs.configure import configure
from tagmill.logs.fields import log_fields
from tagmill.outcomes import ErrorCode
from tagmill.records import ImageRow, InferenceRow, Mask
from tagmill.settings import Settings
from worker.inference.session_cache import NamedBundles
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.tagger import build_tagger
from worker.sources.terms import Terms
from worker.supervision.memory import memory_limit
from worker.supervision.process import ProcessEnd, end_with_parent
from worker.supervision.watchdog import RecycleReason, Watchdog

log = logging.getLogger(__name__)

#: fields of an answer that are arrays
_ARRAYS = ("embedding", "activation_map")


def outcome_of(image: BatchImage) -> dict[str, Any]:
    """Return the answer for an image, as JSON values."""
    facts = None if image.facts is None else asdict(image.facts)
    answers = [_answer_of(answer) for answer in image.answers]
    source = image.twin or image
    return {"sha256": image.sha256, "facts": facts, "answers": answers, "code": source.code, "detail": source.detail}


def take_outcome(image: BatchImage, found: dict[str, Any]) -> None:
    """Copy into an image the values of `outcome_of` from the other process."""
    image.sha256, image.detail = found["sha256"], found["detail"]
    image.code = None if found["code"] is None else ErrorCode(found["code"])
    image.facts = None if found["facts"] is None else ImageRow(**found["facts"])
    image.answers = [_answer_from(row) for row in found["answers"]]


def _answer_of(row: InferenceRow) -> dict[str, Any]:
    arrays = {name: _array_of(getattr(row, name)) for name in _ARRAYS}
    return asdict(replace(row, embedding=None, activation_map=None)) | arrays


def _answer_from(row: dict[str, Any]) -> InferenceRow:
    labels = tuple((str(name), float(score)) for name, score in row["labels"])
    masks = tuple(Mask(**mask | {"box": tuple(mask["box"])}) for mask in row["masks"])
    arrays = {name: _array_from(row[name]) for name in _ARRAYS}
    return InferenceRow(**row | {"labels": labels, "masks": masks} | arrays)


def _array_of(array: Any) -> Any:
    return array if array is None else [array.dtype.str, array.shape, base64.b64encode(array.tobytes()).decode()]


def _array_from(found: Any) -> Any:
    if found is None:
        return None
    kind, shape, data = found
    return np.frombuffer(base64.b64decode(data), kind).reshape(shape)


def main() -> None:
    """Answer requests until stdin ends."""
    end_with_parent(signal.SIGKILL)
    _prefer_oom_kill()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print to stdout must not corrupt the answers
    setup = json.loads(sys.stdin.readline())
    configure(setup["worker"])
    with log_fields(**setup["batch"]):
        _serve(setup, answers)
    os._exit(0)  # without waiting for a thread that may be stuck


def _serve(setup: dict[str, Any], answers: TextIO) -> None:
    log.info("ready to tag suspects", extra={"action": "quarantine_started"})
    settings = Settings(**setup["settings"])
    files = NamedBundles({sha256: Path(path) for sha256, path in setup["bundles"].items()})
    tagger = build_tagger(settings, files)
    limit = memory_limit(settings.max_worker_memory)
    Watchdog(tagger.pools.watched, tagger.sessions, settings.stall_seconds, limit, _end, last_resort=True)
    try:
        sessions = [tagger.sessions.get(sha256) for sha256 in setup["bundles"]]
    except TagmillError as error:
        _answer(answers, {"error": str(error)})
        return
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        images = [BatchImage(*entry) for entry in json.loads(line)]
        terms = Terms(limits=setup["limits"] and HostLimits(**setup["limits"]))
        tagged = tagger.tag(images, sessions, tuple(setup["roots"]), terms)
        traffic = terms.traffic
        counts = [traffic.requests, traffic.not_modified, traffic.bytes_fetched]
        _answer(answers, {"images": [outcome_of(image) for image in tagged], "traffic": counts})


def _answer(answers: Any, data: Any) -> None:
    print(json.dumps(data), file=answers, flush=True)


def _end(reason: RecycleReason) -> None:
    # A lost thread does no harm here: this process ends with its batch.
    if reason is RecycleReason.MEMORY:
        os._exit(ProcessEnd.OUT_OF_MEMORY)


def _prefer_oom_kill() -> None:
    """Have a kernel that is out of memory kill this process rather than the worker."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass  # not Linux


if __name__ == "__main__":
    main()

"""One image on its way through a batch: every stage takes a list of these and returns it, with more filled in."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tagmill.images.image import Pixels
from tagmill.images.preprocess import PreprocessSpec
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.records import BatchResult, ImageRow, InferenceRow, Outcome, SeenFile
from worker.inference.session import Session

log = logging.getLogger(__name__)


@dataclass(eq=False)
class BatchImage:
    """One image of a batch. An image that failed, or whose results are all known, passes the later stages untouched."""

    position: int
    uri: str
    #: of a local file that may be read: hash of path, size, inode and times before it is read
    identity: str | None = None
    #: of its bytes
    sha256: str | None = None
    #: its bytes were hashed in an earlier run, and every model has a result for them: it is not read
    unchanged: bool = False
    #: its bytes, until they are decoded; None if the batch already holds too many: then they are fetched again
    data: bytes | None = None
    #: of a local file, after it was read
    status: os.stat_result | None = None
    #: sessions whose result for these bytes is missing
    missing: Sequence[Session] = ()
    #: an earlier image of the batch with the same bytes, which stands for this one
    twin: "BatchImage | None" = None
    #: size and format, once it is decoded
    facts: ImageRow | None = None
    #: uint8 [height, width, 3] for each distinct input of the missing sessions
    inputs: dict[PreprocessSpec, Pixels] = field(default_factory=dict)
    answers: list[InferenceRow] = field(default_factory=list)
    code: ErrorCode | None = None
    #: why it failed, in words
    detail: str | None = None

    def fail(self, code: ErrorCode, detail: str) -> None:
        """Record why it failed, and drop its bytes."""
        self.code, self.detail, self.data = code, detail, None

    def fail_with(self, error: Exception, unforeseen: ErrorCode) -> None:
        """Record the failure of its fetch or decoding; `unforeseen` is the code of an exception that has none."""
        if isinstance(error, ImageFailure):  # of the image, or of a pool that abandoned it
            self.fail(error.code, error.detail)
        elif isinstance(error, MemoryError):
            self.fail(ErrorCode.OUT_OF_MEMORY, "no memory to decode it")
        else:
            # A fault of ours or of a decoder must not fail the whole batch.
            log.error("image failed", extra={"action": "image_failed", "position": self.position}, exc_info=error)
            self.fail(unforeseen, f"{type(error).__name__}: {error}"[:300])


def to_result(images: Iterable[BatchImage], files: Sequence[SeenFile] = ()) -> BatchResult:
    """Return what the ledger writes for these images."""
    outcomes, facts, answers = [], [], []
    for image in images:
        source = image.twin or image
        sha256 = None if source.code else image.sha256
        outcomes.append(Outcome(image.position, sha256, source.code, source.detail))
        if image.facts is not None:
            facts.append(image.facts)
        answers += image.answers
    return BatchResult(outcomes, facts, answers, files)

"""One image of a batch: every stage takes a list of these, fills in more fields, and returns the list."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from tagmill.images.image import Pixels
from tagmill.images.preprocess import PreprocessSpec
from tagmill.locations.schemes import LOCAL
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.records import ImageRow, InferenceRow, PictureRow, SeenUrl
from worker.inference.session import Session
from worker.sources.fetcher import FileState
from worker.sources.validators import Validators

log = logging.getLogger(__name__)


@dataclass(eq=False)
class BatchImage:
    """One image of a batch. Later stages skip an image that failed or whose results are all known."""

    position: int
    uri: str
    #: whether it is a file on this machine, not a URL
    local: bool = field(init=False)
    #: for a local file that may be read: hash of its path, size, inode and times, taken before it is read; for a URL:
    #: hash of what stays the same of it
    identity: str | None = None
    #: for a URL: what an earlier run found there
    seen: SeenUrl | None = None
    #: for a URL: what its server is told of the bytes that are known and not needed again
    known: Validators = field(default_factory=Validators)
    #: for a URL: what the bytes that came may be recognized by
    validators: Validators = field(default_factory=Validators)
    #: sha256 of its bytes
    sha256: str | None = None
    #: whether its bytes were hashed in an earlier run, every model has a result for them, and they are still the same:
    #: they are then not read
    unchanged: bool = False
    #: its bytes until they are decoded; None if the batch already holds too many bytes: they are then fetched again
    data: bytes | None = None
    #: for a local file: its state after it was read
    state: FileState | None = None
    #: whether its identity is stored, so that a later run recognizes the file or the URL
    remember: bool = False
    #: sessions whose result for these bytes is missing
    missing: Sequence[Session] = ()
    #: sessions of shadows and canaries whose result is missing: what goes wrong with one does not fail the image
    tried: Sequence[Session] = ()
    #: an earlier image of the batch with the same bytes, whose outcome this one gets
    twin: "BatchImage | None" = None
    #: its size and format, once it is decoded
    facts: ImageRow | None = None
    #: uint8 [height, width, 3] for each distinct preprocessing of the missing sessions
    inputs: dict[PreprocessSpec, Pixels] = field(default_factory=dict)
    #: whether its picture is to be measured, and what was measured
    measure: bool = False
    picture: PictureRow | None = None
    #: the results of the missing sessions
    answers: list[InferenceRow] = field(default_factory=list)
    #: why it failed
    code: ErrorCode | None = None
    #: why it failed, in words
    detail: str | None = None

    def __post_init__(self) -> None:
        self.local = self.uri.startswith(LOCAL)

    def fail(self, code: ErrorCode, detail: str) -> None:
        """Record why it failed, and drop its bytes."""
        self.code, self.detail, self.data = code, detail, None

    def fail_with(self, error: Exception, unforeseen: ErrorCode) -> None:
        """Record the failure that an exception of fetching or decoding means; `unforeseen` for an unexpected one."""
        if isinstance(error, ImageFailure):  # raised for the image, or by a pool that abandoned it
            self.fail(error.code, error.detail)
        elif isinstance(error, MemoryError):
            self.fail(ErrorCode.OUT_OF_MEMORY, "no memory to decode it")
        else:
            # A bug in this code or in a decoder must not fail the whole batch.
            log.error("image failed", extra={"action": "image_failed", "position": self.position}, exc_info=error)
            self.fail(unforeseen, f"{type(error).__name__}: {error}"[:300])

"""What one batch writes to SQL, as plain values: outcomes, facts of the images, and the models' answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from tagmill.outcomes import ErrorCode


@dataclass(frozen=True)
class PendingImage:
    """One image of a claimed batch that has no outcome yet."""

    position: int
    uri: str


@dataclass(frozen=True)
class Outcome:
    """What happened to one image: tagged (sha256 of its bytes) or failed (code and detail)."""

    position: int
    sha256: str | None = None
    error_code: ErrorCode | None = None
    error_detail: str | None = None


@dataclass(frozen=True)
class MaskRow:
    """One label's mask of an inference; see the table `mask` for the units."""

    label: str
    rle: str
    height: int
    width: int
    area_share: float
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class InferenceRow:
    """One model's answer for one image's bytes."""

    image_sha256: str
    model_sha256: str
    provider: str
    labels: tuple[tuple[str, float], ...]
    masks: tuple[MaskRow, ...]


@dataclass(frozen=True)
class ImageRow:
    """Facts of distinct image bytes."""

    sha256: str
    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True)
class SeenFile:
    """A local file as it was when its bytes were hashed; see the table `file_seen`."""

    identity: str
    sha256: str


@dataclass(frozen=True)
class BatchResult:
    """Everything one transaction writes for a batch."""

    outcomes: Sequence[Outcome]
    images: Sequence[ImageRow]
    inferences: Sequence[InferenceRow]
    files: Sequence[SeenFile] = ()


@dataclass(frozen=True)
class Entry:
    """One image to tag: its key, unique in a run, and where its bytes are (absolute path or http(s) URL)."""

    image_key: str
    uri: str

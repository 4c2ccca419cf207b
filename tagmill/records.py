"""The records that pass between manifests, batches and SQL, as plain values.

An `Entry` is read from a manifest, a `PendingImage` comes with a claimed batch, and a `BatchResult` is what one batch
writes to SQL: the outcomes, facts of the images, and the models' results.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tagmill.outcomes import ErrorCode

if TYPE_CHECKING:  # a producer needs no NumPy to submit
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PendingImage:
    """One image of a claimed batch that has no outcome yet."""

    position: int
    uri: str
    #: unique in a run; what the catalog knows the image by
    image_key: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of one image: tagged (sha256 of its bytes) or failed (code and detail)."""

    position: int
    sha256: str | None = None
    error_code: ErrorCode | None = None
    error_detail: str | None = None


@dataclass(frozen=True)
class Mask:
    """The mask of one label, as a COCO RLE at the model's resolution."""

    label: str
    #: compressed counts of a COCO RLE of `height` x `width` pixels
    rle: str
    height: int
    width: int
    #: 0 to 1, of the part of the image that the model saw
    area_share: float
    #: left, top, right, bottom, in pixels of the image
    box: tuple[float, float, float, float]
    #: mean probability over the pixels of the mask
    score: float


@dataclass(frozen=True)
class ActivationMap:
    """Where in the part of an image that a model saw the evidence for its best label is."""

    #: in cells
    height: int
    width: int
    #: a byte for each cell, row by row: 0 none, 255 the strongest evidence in the image
    levels: bytes


@dataclass(frozen=True)
class InferenceRow:
    """One model's result for one image's bytes."""

    image_sha256: str
    model_sha256: str
    provider: str
    labels: tuple[tuple[str, float], ...]
    masks: tuple[Mask, ...]
    #: float32 [D] of unit length, of a bundle that gives one
    embedding: "NDArray[np.float32] | None" = field(default=None, compare=False)
    #: uint8 [h, w]: where its best label comes from, of a bundle that says so
    activation_map: "NDArray[np.uint8] | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class ImageRow:
    """Size and format of one image, by the sha256 of its bytes."""

    sha256: str
    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True)
class PictureRow:
    """What was measured on one picture; see docs/picture-rules.md. Shares are 0 to 1, None is unknown."""

    image_sha256: str
    #: perceptual hash of 64 bits as a signed number, and that of the mirrored picture
    phash: int
    phash_mirrored: int
    #: what the product's pixels are: mask, background (what differs from a plain one) or frame (the whole picture)
    product_from: str
    #: of the pixels along the edge, those that are white
    white_border: float
    #: of the picture, what the product's pixels take
    product_area: float | None
    #: of the width or height, whichever is more, what the product's bounding box takes
    product_extent: float | None
    #: bounding box of the product, in pixels of the image
    box_left: float | None
    box_top: float | None
    box_right: float | None
    box_bottom: float | None
    #: standard deviation of the Laplacian of the luma, in levels of 0 to 255, at 256 pixels
    sharpness: float
    #: luma that 99 % of the pixels do not exceed
    brightness: float
    #: that less the luma that 1 % of the pixels do not exceed
    contrast: float
    #: of the shorter side, the width of the widest frame or bar around the picture
    frame: float
    #: of the picture, what text takes; None if it was not looked for
    text_share: float | None = None
    text_boxes: int | None = None
    #: (attribute, value, score)
    attributes: tuple[tuple[str, str, float], ...] = ()


@dataclass(frozen=True)
class SeenFile:
    """A local file as it was when its bytes were hashed; see the table `file_seen`."""

    identity: str
    sha256: str


@dataclass(frozen=True)
class SeenUrl:
    """What the server of a URL or object recognizes its bytes by; see the table `known_url`."""

    #: first half of the sha256 of the location
    location: str
    sha256: str
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True)
class Spent:
    """What a batch took."""

    #: requests for images, redirects and further attempts included
    requests: int = 0
    #: answers that the image has not changed (304)
    not_modified: int = 0
    #: of all bodies, as received
    bytes_fetched: int = 0
    #: of all cores
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass(frozen=True)
class CanaryRow:
    """An entry that shows the result of a canary."""

    position: int
    model_id: int
    #: where its product lies among all, 0 to 1
    point: float


@dataclass(frozen=True)
class BatchResult:
    """Everything that one transaction writes for a batch."""

    outcomes: list[Outcome]
    images: list[ImageRow]
    inferences: list[InferenceRow]
    files: list[SeenFile] = field(default_factory=list)
    urls: list[SeenUrl] = field(default_factory=list)
    spent: Spent = Spent()
    pictures: list[PictureRow] = field(default_factory=list)
    canaries: list[CanaryRow] = field(default_factory=list)


class Entry(NamedTuple):
    """One image to tag: its key, unique in a run, and where its bytes are (absolute path or URL)."""

    image_key: str
    uri: str
    #: the further columns of its manifest, as the text of a JSON object
    extra: str | None = None

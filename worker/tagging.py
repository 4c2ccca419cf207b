"""Run the pictures of one batch through one session: inference rows, and the pictures the model failed on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tagmill.bundle import BundleSpec
from tagmill.ledger import InferenceRow, MaskRow
from tagmill.masks import encode_masks
from worker.reader import DecodedImage
from worker.session import Prediction, Session

#: labels stored for an image
TOP_LABELS = 5


@dataclass(frozen=True)
class TaggedImages:
    """The rows of the pictures that went through, and sha256 -> reason of those that did not."""

    rows: list[InferenceRow]
    failed: dict[str, str]


def tag_images(session: Session, images: Sequence[DecodedImage], batch_size: int) -> TaggedImages:
    """Infer in calls of at most `batch_size`; a failing call is halved down to the picture that breaks it."""
    tagged = TaggedImages([], {})
    for start in range(0, len(images), batch_size):
        _tag_call(session, images[start : start + batch_size], tagged)
    return tagged


def top_labels(scores: NDArray[np.float32], labels: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return the best labels with their scores, best first; equal scores in the order of the labels."""
    best = np.argsort(-scores, kind="stable")[:TOP_LABELS]
    return tuple((labels[number], float(scores[number])) for number in best)


def _tag_call(session: Session, images: Sequence[DecodedImage], tagged: TaggedImages) -> None:
    try:
        prediction = session.run(np.stack([image.inputs[session.spec.preprocess] for image in images]))
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        if len(images) == 1:
            tagged.failed[images[0].row.sha256] = f"{session.spec.name}: {str(error).splitlines()[0]}"
            return
        middle = len(images) // 2
        _tag_call(session, images[:middle], tagged)
        _tag_call(session, images[middle:], tagged)
        return
    for number, image in enumerate(images):
        if np.isfinite(prediction.scores[number]).all():
            tagged.rows.append(_row(session, image, prediction, number))
        else:
            tagged.failed[image.row.sha256] = f"{session.spec.name}: a score is not a finite number"


def _row(session: Session, image: DecodedImage, prediction: Prediction, number: int) -> InferenceRow:
    spec, scores = session.spec, prediction.scores[number]
    masks = () if prediction.mask is None else _masks(spec, prediction.mask[number], scores, image)
    labels = top_labels(scores, spec.labels) if prediction.mask is None else ()
    return InferenceRow(image.row.sha256, session.sha256, session.provider, labels, masks)


def _masks(
    spec: BundleSpec, index: NDArray[np.uint8], scores: NDArray[np.float32], image: DecodedImage
) -> tuple[MaskRow, ...]:
    return encode_masks(
        index, scores.tolist(), spec.labels, spec.background, spec.preprocess, image.row.width, image.row.height
    )

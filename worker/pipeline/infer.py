"""Run the images of one batch through one session: inference rows, and the images the model failed on."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import DeviceLostError, first_line
from tagmill.images.image import Pixels
from tagmill.outcomes import ErrorCode
from tagmill.records import InferenceRow
from tagmill.tasks.base import Prediction
from worker.inference.error_codes import error_code_of
from worker.inference.session import Session
from worker.pipeline.reader import ReadImage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaggedImages:
    """The rows of the images that went through, and sha256 -> code and reason of those that did not."""

    rows: list[InferenceRow]
    failed: dict[str, tuple[ErrorCode, str]]


#: infers uint8 [N, H, W, 3] in a call of at most so many images, in which others may take part
Infer = Callable[[NDArray[np.uint8], int], Prediction]


def tag_images(
    session: Session,
    images: Sequence[ReadImage],
    batch_size: int,
    infer: Infer | None = None,
    pool: Executor | None = None,
) -> TaggedImages:
    """Infer in calls of at most `batch_size`; a failing call is split down to the image that breaks it.

    `infer` makes the calls, the session alone where there is none. With a `pool` they are made side by side. Raises
    DeviceLostError where a failure is no picture's fault.
    """
    call = infer or (lambda pictures, largest: session.run(pictures, best_only=True))
    size = min(batch_size, session.largest_call or batch_size)
    chunks = [images[start : start + size] for start in range(0, len(images), size)]
    each = pool.map if pool else map
    parts = list(each(lambda chunk: _tag_chunk(session, chunk, batch_size, call), chunks))
    failed = {sha256: reason for part in parts for sha256, reason in part.failed.items()}
    return TaggedImages([row for part in parts for row in part.rows], failed)


def _tag_chunk(session: Session, images: Sequence[ReadImage], batch_size: int, infer: Infer) -> TaggedImages:
    tagged = TaggedImages([], {})
    start = 0
    while start < len(images):
        # Asked anew for each call: one that runs out of memory makes all later ones of its session smaller.
        size = min(batch_size, session.largest_call or batch_size)
        _tag_call(session, images[start : start + size], size, infer, tagged)
        start += size
    return tagged


def together(pictures: Sequence[Pixels]) -> Pixels:
    """Return uint8 [N, H, W, 3]: the part of one array in which the images lie in this order, else a copy of them."""
    whole, size = pictures[0].base, pictures[0].nbytes
    if whole is None or whole.shape[1:] != pictures[0].shape or any(picture.base is not whole for picture in pictures):
        return np.stack(pictures)
    places = [_address(picture) for picture in pictures]
    if places != list(range(places[0], places[0] + size * len(pictures), size)):
        return np.stack(pictures)
    row = (places[0] - _address(whole)) // size
    return whole[row : row + len(pictures)]


def _address(array: Pixels) -> int:
    return int(array.__array_interface__["data"][0])


def _tag_call(session: Session, images: Sequence[ReadImage], largest: int, infer: Infer, tagged: TaggedImages) -> None:
    try:
        pictures = together([image.inputs[session.spec.preprocess] for image in images])
        prediction = infer(pictures, largest)
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        code = error_code_of(error)
        if len(images) == 1:
            if code is ErrorCode.INFERENCE_FAILED:
                _require_device(session)
            tagged.failed[images[0].row.sha256] = (code, f"{session.spec.name}: {first_line(error)}")
            return
        # A call that stalls costs its whole time: one image at a time it does so once. Else halves find it sooner.
        size = 1 if code is ErrorCode.TIMED_OUT else len(images) // 2
        if code is ErrorCode.OUT_OF_MEMORY:
            _learn_size(session, size)
        for start in range(0, len(images), size):
            _tag_call(session, images[start : start + size], size, infer, tagged)
        return
    for number, image in enumerate(images):
        if np.isfinite(prediction.scores[number]).all():
            tagged.rows.append(_row(session, image, prediction, number))
        else:
            reason = f"{session.spec.name}: a score is not a finite number"
            tagged.failed[image.row.sha256] = (ErrorCode.INFERENCE_FAILED, reason)


def _require_device(session: Session) -> None:
    """Raise DeviceLostError where not even an image is inferred that was inferred when the bundle was loaded.

    A GPU that broke, or a CUDA error that stays until the process ends, is no fault of the images that meet it.
    """
    if session.sample is None:
        return
    try:
        session.run(session.sample)
    except Exception as error:
        if error_code_of(error) is ErrorCode.INFERENCE_FAILED:
            raise DeviceLostError(f"{session.provider} answers no more: {first_line(error)}") from error


def _learn_size(session: Session, size: int) -> None:
    if session.fixed_batch:
        return  # a smaller call is filled up to the same size
    if session.largest_call is None or size < session.largest_call:
        session.largest_call = size
        log.warning(
            "out of memory: smaller inference calls from now on",
            extra={"action": "calls_smaller", "model": session.spec.name, "images": size},
        )


def _row(session: Session, image: ReadImage, prediction: Prediction, number: int) -> InferenceRow:
    labels, masks = session.spec.task.rows(session.spec, prediction, number, image.row.width, image.row.height)
    return InferenceRow(image.row.sha256, session.sha256, session.provider, labels, masks)

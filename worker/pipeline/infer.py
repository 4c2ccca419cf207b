"""Run the decoded images of a batch through the sessions that they lack results of."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import DeviceLostError, first_line
from tagmill.images.image import Pixels
from tagmill.outcomes import ErrorCode
from tagmill.records import InferenceRow
from tagmill.tasks.base import Prediction
from worker.inference.error_codes import error_code_of
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage

log = logging.getLogger(__name__)


#: infers uint8 [N, H, W, 3] in a call of at most so many images, which other batches may share
Call = Callable[[NDArray[np.uint8], int], Prediction]


def infer_images(
    images: list[BatchImage],
    sessions: Sequence[Session],
    call_of: Callable[[Session], Call] | None = None,
    pool: Executor | None = None,
) -> list[BatchImage]:
    """Run every decoded image through its missing sessions, and add their answers.

    Calls take `Session.best_batch` images. A failing call is split down to the image that breaks it, which fails.
    `call_of` gives what makes a session's calls, the session alone if None. With a `pool`, the calls of a session run
    in parallel. Raise DeviceLostError if a failure is not the fault of an image.
    """
    for session in sessions:
        wanted = [image for image in images if image.facts is not None and session in image.missing]
        call = call_of(session) if call_of else _alone(session)
        size = _size(session)
        chunks = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        if pool is None or len(chunks) < 2:
            for chunk in chunks:
                _infer_chunk(session, chunk, call)
        else:
            for _ in pool.map(lambda chunk: _infer_chunk(session, chunk, call), chunks):  # noqa: B023 - ends in here
                pass
    return images


def _alone(session: Session) -> Call:
    return lambda images, largest: session.run(images, best_only=True)


def _size(session: Session) -> int:
    return min(session.best_batch, session.largest_call or session.best_batch)


def _infer_chunk(session: Session, images: Sequence[BatchImage], call: Call) -> None:
    start = 0
    while start < len(images):
        # Read again for each call: one that runs out of memory makes all later calls of its session smaller.
        size = _size(session)
        _infer_call(session, images[start : start + size], size, call)
        start += size


def together(images: Sequence[Pixels]) -> Pixels:
    """Return uint8 [N, H, W, 3]: a view if the images are consecutive rows of one array, else a copy."""
    whole, size = images[0].base, images[0].nbytes
    if whole is None or whole.shape[1:] != images[0].shape or any(image.base is not whole for image in images):
        return np.stack(images)
    addresses = [_address(image) for image in images]
    if addresses != list(range(addresses[0], addresses[0] + size * len(images), size)):
        return np.stack(images)
    row = (addresses[0] - _address(whole)) // size
    return whole[row : row + len(images)]


def _address(array: Pixels) -> int:
    return int(array.__array_interface__["data"][0])


def _infer_call(session: Session, images: Sequence[BatchImage], largest: int, call: Call) -> None:
    try:
        pixels = together([image.inputs[session.spec.preprocess] for image in images])
        prediction = call(pixels, largest)
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        code = error_code_of(error)
        if len(images) == 1:
            if code is ErrorCode.INFERENCE_FAILED:
                _require_device(session)
            images[0].fail(code, f"{session.spec.name}: {first_line(error)}")
            return
        # A call that stalls costs its whole time, so only once: then one image at a time. Else halves are faster.
        size = 1 if code is ErrorCode.TIMED_OUT else len(images) // 2
        if code is ErrorCode.OUT_OF_MEMORY:
            _learn_size(session, size)
        for start in range(0, len(images), size):
            _infer_call(session, images[start : start + size], size, call)
        return
    finite = np.isfinite(prediction.scores)
    for number, image in enumerate(images):
        if not finite[number].all():
            image.fail(ErrorCode.INFERENCE_FAILED, f"{session.spec.name}: a score is not a finite number")
            continue
        facts = image.facts
        assert facts is not None, "it was decoded"
        labels, masks = session.spec.task.rows(session.spec, prediction, number, facts.width, facts.height)
        image.answers.append(InferenceRow(facts.sha256, session.sha256, session.provider, labels, masks))


def _require_device(session: Session) -> None:
    """Raise DeviceLostError if the session fails even on a golden sample, which it inferred when it was loaded.

    A broken GPU, or a CUDA error that persists until the process ends, is not the fault of an image.
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
            extra={"action": "inference_batch_reduced", "model": session.spec.name, "images": size},
        )

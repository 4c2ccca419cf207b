"""Run the decoded images of a batch through the sessions that lack a result for them."""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from tagmill.errors import DeviceLostError, first_line
from tagmill.images.image import Pixels
from tagmill.outcomes import ErrorCode
from tagmill.records import InferenceRow
from worker.inference.error_codes import error_code_of
from worker.inference.golden_check import SLACK
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage

log = logging.getLogger(__name__)


def infer_images(
    images: list[BatchImage], sessions: Sequence[Session], pool: Executor | None = None
) -> list[BatchImage]:
    """Run every decoded image through its missing sessions, and add the results to its `answers`.

    A call takes `Session.best_batch` images. A failing call is split down to the image that breaks it, which fails.
    With a `pool`, the calls of a session run in parallel. Raise DeviceLostError if a failure is not the fault of an
    image.
    """
    for session in sessions:
        wanted = [image for image in images if image.facts is not None and session in image.missing]
        size = _size(session)
        chunks = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        if pool is None or len(chunks) < 2:
            for chunk in chunks:
                _infer_chunk(session, chunk)
        else:
            for _ in pool.map(lambda chunk: _infer_chunk(session, chunk), chunks):  # noqa: B023 - map ends inside the loop
                pass
    return images


def _size(session: Session) -> int:
    return min(session.best_batch, session.largest_call or session.best_batch)


def _infer_chunk(session: Session, images: Sequence[BatchImage]) -> None:
    start = 0
    while start < len(images):
        # Read before each call: a call that runs out of memory makes all later calls of its session smaller.
        size = _size(session)
        _infer_call(session, images[start : start + size], size)
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


def _infer_call(session: Session, images: Sequence[BatchImage], largest: int) -> None:
    try:
        pixels = together([image.inputs[session.spec.preprocess] for image in images])
        prediction = session.batched.run(pixels, largest)
    except Exception as error:  # the exceptions of onnxruntime have no common base class
        code = error_code_of(error)
        if len(images) == 1:
            if code is ErrorCode.INFERENCE_FAILED:
                _require_device(session)
            images[0].fail(code, f"{session.spec.name}: {first_line(error)}")
            return
        # A call that stalls costs its whole timeout, so retry one image at a time. Otherwise halving is faster.
        size = 1 if code is ErrorCode.TIMED_OUT else len(images) // 2
        if code is ErrorCode.OUT_OF_MEMORY:
            _limit_size(session, size)
        for start in range(0, len(images), size):
            _infer_call(session, images[start : start + size], size)
        return
    nothing: Sequence[Any] = [None] * len(images)
    embeddings = nothing if prediction.embedding is None else prediction.embedding
    maps = nothing if prediction.activation_map is None else prediction.activation_map
    valid = (prediction.scores >= -SLACK) & (prediction.scores <= 1 + SLACK)  # false for what is not a number
    for number, image in enumerate(images):
        if not valid[number].all():
            image.fail(ErrorCode.INFERENCE_FAILED, f"{session.spec.name}: a score is not a number from 0 to 1")
            continue
        embedding = embeddings[number]
        if embedding is not None and not np.isfinite(embedding).all():
            image.fail(ErrorCode.INFERENCE_FAILED, f"{session.spec.name}: its embedding holds what is not a number")
            continue
        facts = image.facts
        assert facts is not None, "it was decoded"
        labels, masks = session.spec.task.rows(session.spec, prediction, number, facts.width, facts.height)
        row = InferenceRow(facts.sha256, session.sha256, session.provider, labels, masks, embedding, maps[number])
        image.answers.append(row)


def _require_device(session: Session) -> None:
    """Raise DeviceLostError if the session fails even on a golden sample, which it inferred when it was loaded.

    No image is to blame for a broken GPU, or for a CUDA error that persists until the process ends.
    """
    if session.sample is None:
        return
    try:
        session.run(session.sample)
    except Exception as error:
        if error_code_of(error) is ErrorCode.INFERENCE_FAILED:
            raise DeviceLostError(f"{session.provider} no longer works: {first_line(error)}") from error


def _limit_size(session: Session, size: int) -> None:
    if session.fixed_batch:
        return  # a smaller call is padded to the same size
    if session.largest_call is None or size < session.largest_call:
        session.largest_call = size
        log.warning(
            "out of memory: smaller inference calls from now on",
            extra={"action": "inference_batch_reduced", "bundle": session.spec.name, "images": size},
        )

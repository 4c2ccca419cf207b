"""Compare what a bundle answers with what the original graph answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.foreign.choices import Activation, Choices
from export.foreign.graph_facts import Layout
from export.foreign.reference import Values, pixels_of, scores_of
from tagmill.bundles.metadata import Precision
from tagmill.errors import BundleError, InputError
from tagmill.tasks.base import Prediction
from worker.inference.golden_check import EIGHT_BITS, EXACT, TEN_BITS

#: largest difference of a score, and share of mask pixels, by precision
TOLERANCES = {Precision.FP32: EXACT, Precision.FP16: TEN_BITS, Precision.INT8: EIGHT_BITS}


def check_labels_of_pixels(choices: Choices, answers: Values) -> None:
    """Raise InputError if a graph that gives a label for each pixel gives others than there are, or not each pixel."""
    if not choices.task.gives_masks or answers[str(choices.output)].ndim != 3:
        return
    raw = answers[str(choices.output)]
    wanted = (choices.preprocess.height, choices.preprocess.width)
    if raw.shape[1:] != wanted:
        raise InputError(
            f"the output {choices.output} has {raw.shape[1]}x{raw.shape[2]} labels for {wanted[0]}x{wanted[1]} pixels; "
            "export the graph with its scores of each label, which are scaled up"
        )
    if raw.min() < 0 or raw.max() >= len(choices.labels):
        raise InputError(
            f"--labels names {len(choices.labels)}, but the output {choices.output} gives pixels the labels "
            f"{int(raw.min())} to {int(raw.max())}"
        )


def check_width(choices: Choices, raw: NDArray[Any]) -> None:
    """Raise InputError if an output does not have one value for each label."""
    labels = len(choices.labels)
    if not choices.task.gives_masks:
        width, of = int(np.prod(raw.shape[1:])), "image"
    elif raw.ndim == 4:
        width, of = raw.shape[channels_of(choices, raw)], "pixel"
    else:
        return  # labels of pixels
    if width != labels:
        raise InputError(f"--labels names {labels}, but the output {choices.output} has {width} values for each {of}")


def channels_of(choices: Choices, raw: NDArray[Any]) -> int:
    """Return the axis of the labels in an output."""
    return raw.ndim - 1 if choices.task.gives_masks and choices.layout is Layout.NHWC else 1


def compare(choices: Choices, answers: Values, activation: Activation, found: Prediction) -> tuple[float, float | None]:
    """Return the largest difference of a score or number, and the share of mask pixels that differ."""
    largest, mask_difference = 0.0, None
    if choices.output is not None and not choices.task.gives_masks:
        raw = answers[choices.output]
        expected = scores_of(raw.reshape(len(raw), -1), activation)
        largest = float(np.nan_to_num(np.abs(expected - found.scores), nan=np.inf).max())
    if choices.output is not None and choices.task.gives_masks:
        assert found.mask is not None
        mask, scores = pixels_of(answers[choices.output], choices, activation)
        mask_difference = float((mask != found.mask).mean())
        # A pixel between two labels changes the mean of a small label far more than rounding does.
        same = (mask == found.mask).all(axis=(1, 2))
        apart = np.abs(scores - found.scores)[same]
        largest = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
    if choices.embedding is not None:
        assert found.embedding is not None
        raw = answers[choices.embedding].reshape(len(found.embedding), -1).astype(np.float64)
        expected = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        largest = max(largest, float(np.nan_to_num(np.abs(expected - found.embedding), nan=np.inf).max()))
    return largest, mask_difference


def require_alike(difference: float, mask_difference: float | None, precision: Precision, images: int) -> None:
    """Raise BundleError if a difference is larger than the precision allows."""
    allowed = TOLERANCES[precision]
    if not difference <= allowed.score:
        raise BundleError(
            f"the bundle differs from the graph by {difference:.2g} in a score ({allowed.score:g} allowed, {images} "
            "pictures), or its outputs are no numbers: no bundle written"
        )
    if mask_difference is not None and mask_difference > allowed.mask:
        raise BundleError(
            f"the bundle gives another label than the graph to {mask_difference:.2%} of the pixels ({allowed.mask:.1%} "
            f"allowed, {images} pictures): no bundle written"
        )

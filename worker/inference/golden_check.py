"""Check what a loaded bundle answers: scores from 0 to 1, and to its golden samples what was recorded at export."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.bundles.golden import GoldenSamples
from tagmill.bundles.metadata import Precision
from tagmill.errors import BundleError
from tagmill.tasks.base import Prediction, Task
from worker.inference.backend import Arithmetic


@dataclass(frozen=True)
class Tolerance:
    """How far the answers may differ from those of the machine that exported the bundle."""

    #: largest difference of one score
    score: float
    #: largest share of mask pixels with another label
    mask: float


# Measured on 200 images with a small CNN, a residual network and a U-Net; docs/bundles.md has the figures.

#: float32 on any CPU: only the order of additions differs
EXACT = Tolerance(1e-4, 1e-3)
#: float16, and float32 on CUDA, which multiplies in TF32: both keep 10 bits of each factor
TEN_BITS = Tolerance(0.02, 0.01)
#: bfloat16, which keeps 7 bits of each factor: four times the measured difference, see docs/bundles.md
SEVEN_BITS = Tolerance(0.08, 0.02)
#: int8: a value that is rounded the other way moves by a whole step, and kernels round in different places
EIGHT_BITS = Tolerance(0.1, 0.03)


#: how far a golden sample's embedding, which is stored in float16, may be from what was computed
HALF_STEP = 2.0**-11
#: how far a score may be below 0 or above 1: a mean of probabilities in bfloat16 is
SLACK = 0.01


def probe_images(height: int, width: int) -> NDArray[np.uint8]:
    """Return black, white and noise, uint8 [3, height, width, 3], for a bundle without golden samples."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise])


def check_scores(path: Path, provider: str, found: Prediction) -> None:
    """Raise BundleError if a score is not a number from 0 to 1, as in a graph that ends before its softmax."""
    if ((found.scores >= -SLACK) & (found.scores <= 1 + SLACK)).all():
        return
    low, high = found.scores.min(), found.scores.max()
    raise BundleError(
        f"{path}: on {provider} its scores are {low:.4g} to {high:.4g}, not 0 to 1; the graph must end with softmax or "
        "sigmoid"
    )


def tolerance(precision: Precision, arithmetic: Arithmetic) -> Tolerance:
    """Return the tolerance for a bundle of this precision on a device with this arithmetic."""
    if precision is Precision.INT8:
        return EIGHT_BITS
    if arithmetic is Arithmetic.BFLOAT16:
        return SEVEN_BITS
    return EXACT if arithmetic is Arithmetic.FLOAT32 and precision is Precision.FP32 else TEN_BITS


def check_answers(
    path: Path, provider: str, task: Task, golden: GoldenSamples, found: Prediction, allowed: Tolerance
) -> float:
    """Return how far a bundle's answers to its golden samples differ from those recorded at export.

    Raise BundleError if the difference exceeds `allowed`.
    """
    difference, what = task.difference(golden.expected, found)
    limit = allowed.mask if task.gives_masks else allowed.score
    if difference > limit:
        raise BundleError(
            f"{path}: on {provider} its golden samples differ by {difference:.2g} {what} ({limit:g} allowed): this "
            "machine would tag wrongly; choose another --device, or export the bundle again"
        )
    if golden.expected.embedding is not None and found.embedding is not None:
        gap = float(np.nan_to_num(np.abs(golden.expected.embedding - found.embedding), nan=1.0).max())
        if gap > allowed.score + HALF_STEP:
            raise BundleError(
                f"{path}: on {provider} the embeddings of its golden samples differ by {gap:.2g} ({allowed.score:g} "
                "allowed): choose another --device, or export the bundle again"
            )
    return difference

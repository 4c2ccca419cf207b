"""Reduce a graph to float16 or 8 bits, and measure what that costs on labeled images of the run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.precision.calibration import Calibration, choose, observe
from export.precision.float16 import to_half
from export.precision.int8 import activations, first_and_last, prepare, quantize
from export.proof.predict import answers
from tagmill.bundles.spec import Precision
from tagmill.errors import BundleError
from tagmill.tasks.base import Prediction
from training.data.arrays import Arrays, LabeledSet
from worker.inference.session import Session

#: points by which the figure may fall
ALLOWED = 0.5
#: training images that show the range of every activation
CALIBRATED_ON = 256
#: validation images that the method is chosen on
CHOSEN_ON = 500

#: makes a session of a graph, as workers have it
Open = Callable[[onnx.ModelProto, Precision], Session]


@dataclass(frozen=True)
class Calibrated:
    """How the ranges of an int8 graph came about."""

    method: Calibration
    #: training images
    images: int
    seed: int
    #: layers that stayed in float32
    float_layers: int
    #: validation images that the method was chosen on, and the figure there in fp32 and with this method
    chosen_on: int
    fp32: float
    figure: float


@dataclass(frozen=True)
class Comparison:
    """The figure of a bundle in float32 and with fewer bits, on the same images."""

    precision: Precision
    metric: str
    #: "test" or "validation"
    use: str
    images: int
    fp32: float
    figure: float
    calibration: Calibrated | None

    @property
    def points(self) -> float:
        """By how much the figure falls, in points of a hundred."""
        return 100 * (self.fp32 - self.figure)

    def check(self) -> None:
        """Raise BundleError where the figure falls by more than is allowed."""
        if self.points > ALLOWED + 1e-6:
            raise BundleError(
                f"{self.metric.replace('_', ' ')} is {self.figure:.4f} in {self.precision} against {self.fp32:.4f} in "
                f"fp32 on {self.images} {self.use} images, {self.points:.2f} points less ({ALLOWED:g} allowed): no "
                "bundle written"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the metadata."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def reduce(
    model: onnx.ModelProto, precision: Precision, data: LabeledSet, seed: int, opened: Open
) -> tuple[onnx.ModelProto, Comparison]:
    """Return the graph with fewer bits and what it costs. Raises BundleError where that is too much."""
    calibrated = None
    if precision is Precision.INT8:
        reduced, calibrated = _calibrate(model, data, seed, opened)
    else:
        reduced = to_half(model)
    use, arrays = ("test", data.test) if data.test else ("validation", data.validation)
    before, after = opened(model, Precision.FP32), opened(reduced, precision)
    comparison = Comparison(
        precision=precision,
        metric=before.spec.task.headline,
        use=use,
        images=len(arrays),
        fp32=_figure(before, answers(before, arrays.pixels), arrays),
        figure=_figure(after, answers(after, arrays.pixels), arrays),
        calibration=calibrated,
    )
    comparison.check()
    return reduced, comparison


def _calibrate(model: onnx.ModelProto, data: LabeledSet, seed: int, opened: Open) -> tuple[onnx.ModelProto, Calibrated]:
    """Try every method; where the best still costs half of what is allowed, with the first and last layer in float."""
    prepared = prepare(model)
    images = data.train.pixels[_some(len(data.train), CALIBRATED_ON, seed)]
    seen = observe(prepared, activations(prepared), images, seed)
    held = data.validation.select(_some(len(data.validation), CHOSEN_ON, seed))
    fp32 = opened(model, Precision.FP32)
    truth = answers(fp32, held.pixels)
    figure = _figure(fp32, truth, held)
    candidates: list[tuple[tuple[float, float], onnx.ModelProto, Calibrated]] = []

    def attempt(kept: list[str]) -> float:
        """Try every method; return by how many points the best of all so far falls."""
        for method in Calibration:
            graph = quantize(prepared, {name: choose(values, method) for name, values in seen.items()}, kept)
            session = opened(graph, Precision.INT8)
            found = answers(session, held.pixels)
            rank = _figure(session, found, held), -_distance(found, truth)
            made = Calibrated(method, len(images), seed, len(kept), len(held), figure, rank[0])
            candidates.append((rank, graph, made))
        return 100 * (figure - max(rank for rank, _, _ in candidates)[0])

    if attempt([]) > ALLOWED / 2:
        attempt(first_and_last(prepared))
    _, graph, calibrated = max(candidates, key=lambda candidate: candidate[0])
    return graph, calibrated


def _some(total: int, wanted: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(total)[:wanted])


def _figure(session: Session, found: Prediction, arrays: Arrays) -> float:
    task = session.spec.task
    return float(task.measure(found, arrays.targets, session.spec.labels).figures[task.headline])


def _distance(found: Prediction, truth: Prediction) -> float:
    """Return how far answers are from those in fp32: the share of other mask pixels, or the mean over the scores."""
    if found.mask is not None and truth.mask is not None:
        return float((found.mask != truth.mask).mean())
    return float(np.abs(found.scores - truth.scores).mean())

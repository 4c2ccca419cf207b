"""Reduce the precision of a graph to float16 or 8 bits, and measure the loss on labeled images of the run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.precision.calibration import Calibration, choose_range, observe_activations
from export.precision.float16 import to_float16
from export.precision.int8 import activation_names, first_and_last_layer, prepare, quantize
from export.proof.predict import predict
from tagmill.bundles.metadata import Precision
from tagmill.errors import BundleError
from tagmill.tasks.base import Prediction
from training.data.arrays import Arrays, LabeledSet
from worker.inference.session import Session

#: points by which the task's figure may fall
MAX_POINTS_LOST = 0.5
#: training images on which the range of every activation is observed
CALIBRATION_IMAGES = 256
#: validation images on which the calibration method is selected
SELECTION_IMAGES = 500

#: returns the session, as workers have it, of a graph in a precision
OpenSession = Callable[[onnx.ModelProto, Precision], Session]


@dataclass(frozen=True)
class SelectedCalibration:
    """The calibration of an int8 graph, and how it was selected."""

    method: Calibration
    #: training images
    images: int
    seed: int
    #: layers that stayed in float32
    float_layers: int
    #: validation images that the method was selected on, and the figure there in fp32 and with this method
    chosen_on: int
    fp32: float
    figure: float


@dataclass(frozen=True)
class Comparison:
    """The figure of a bundle in float32 and in a lower precision, on the same images."""

    precision: Precision
    metric: str
    #: "test" or "validation"
    use: str
    images: int
    fp32: float
    figure: float
    calibration: SelectedCalibration | None

    @property
    def points(self) -> float:
        """By how much the figure falls, in points of a hundred."""
        return 100 * (self.fp32 - self.figure)

    def check(self) -> None:
        """Raise BundleError if the figure falls by more than MAX_POINTS_LOST."""
        if self.points > MAX_POINTS_LOST + 1e-6:
            raise BundleError(
                f"{self.metric.replace('_', ' ')} is {self.figure:.4f} in {self.precision} against {self.fp32:.4f} in "
                f"fp32 on {self.images} {self.use} images, {self.points:.2f} points less ({MAX_POINTS_LOST:g} "
                "allowed): no bundle written"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for the metadata of the bundle."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Candidate:
    """A quantized graph, measured on the selection images."""

    graph: onnx.ModelProto
    calibration: SelectedCalibration
    #: see `_distance`
    distance: float

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key: the best candidate has the largest."""
        return self.calibration.figure, -self.distance


def reduce_precision(
    model: onnx.ModelProto, precision: Precision, data: LabeledSet, seed: int, open_session: OpenSession
) -> tuple[onnx.ModelProto, Comparison]:
    """Return the graph in `precision`, compared with fp32. Raise BundleError if it loses too much."""
    calibration = None
    if precision is Precision.INT8:
        best = _best_quantized(model, data, seed, open_session)
        reduced, calibration = best.graph, best.calibration
    else:
        reduced = to_float16(model)
    use, arrays = ("test", data.test) if data.test else ("validation", data.validation)
    before, after = open_session(model, Precision.FP32), open_session(reduced, precision)
    comparison = Comparison(
        precision=precision,
        metric=before.spec.task.headline,
        use=use,
        images=len(arrays),
        fp32=_figure(before, predict(before, arrays.pixels), arrays),
        figure=_figure(after, predict(after, arrays.pixels), arrays),
        calibration=calibration,
    )
    comparison.check()
    return reduced, comparison


def _best_quantized(model: onnx.ModelProto, data: LabeledSet, seed: int, open_session: OpenSession) -> Candidate:
    """Quantize with every calibration method and return the best candidate.

    If the best one loses more than half of what is allowed, also try every method with the first and the last layer in
    float32.
    """
    prepared = prepare(model)
    images = data.train.pixels[_random_positions(len(data.train), CALIBRATION_IMAGES, seed)]
    observed = observe_activations(prepared, activation_names(prepared), images, seed)
    selection = data.validation.select(_random_positions(len(data.validation), SELECTION_IMAGES, seed))
    session = open_session(model, Precision.FP32)
    expected = predict(session, selection.pixels)
    fp32 = _figure(session, expected, selection)

    def candidates(float_layers: list[str]) -> list[Candidate]:
        measured = []
        for method in Calibration:
            ranges = {name: choose_range(values, method) for name, values in observed.items()}
            graph = quantize(prepared, ranges, float_layers)
            session = open_session(graph, Precision.INT8)
            prediction = predict(session, selection.pixels)
            figure = _figure(session, prediction, selection)
            calibration = SelectedCalibration(
                method, len(images), seed, len(float_layers), len(selection), fp32, figure
            )
            measured.append(Candidate(graph, calibration, _distance(prediction, expected)))
        return measured

    found = candidates([])
    if 100 * (fp32 - max(candidate.calibration.figure for candidate in found)) > MAX_POINTS_LOST / 2:
        found += candidates(first_and_last_layer(prepared))
    return max(found, key=lambda candidate: candidate.rank)


def _random_positions(total: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return `count` of `total` positions, sorted; all if there are fewer."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def _figure(session: Session, prediction: Prediction, arrays: Arrays) -> float:
    """Return the figure that decides for the session's task."""
    task = session.spec.task
    return float(task.measure(prediction, arrays.targets, session.spec.labels).figures[task.headline])


def _distance(prediction: Prediction, expected: Prediction) -> float:
    """Return the share of mask pixels that differ or, without masks, the mean difference of the scores."""
    if prediction.mask is not None and expected.mask is not None:
        return float((prediction.mask != expected.mask).mean())
    return float(np.abs(prediction.scores - expected.scores).mean())

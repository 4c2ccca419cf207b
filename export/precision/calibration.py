"""Observe the activations of a graph on real images, and choose the range of each that 8 bits cover.

ONNX Runtime's own calibrators hold every activation of every image in memory, and run all images again for each
method. Here one run keeps the extremes and a sample, from which the range of every method is computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from tagmill.bundles.metadata import INPUT

#: images of one call: all activations of a call are in memory at once
BATCH = 4
#: values of one activation that are kept for each image
SAMPLES_PER_IMAGE = 2048
#: share of the values, in percent, that the percentile method covers
COVERED_PERCENT = 99.99
#: bins of the entropy method's histogram, and the levels that they are merged into
HISTOGRAM_BINS, LEVELS = 2048, 128

#: lowest and highest value
Range = tuple[float, float]


class Calibration(StrEnum):
    """How the range of an activation is chosen from the observed values."""

    #: all observed values
    MINMAX = "minmax"
    #: 99.99 % of the observed values
    PERCENTILE = "percentile"
    #: the range that loses least information in 128 levels: least Kullback-Leibler divergence (TensorRT, GTC 2017,
    #: S7310)
    ENTROPY = "entropy"


@dataclass
class ObservedValues:
    """The values of one activation."""

    lowest: float
    highest: float
    sample: NDArray[np.float32]


def observe_activations(
    model: onnx.ModelProto, names: Iterable[str], images: NDArray[np.uint8], seed: int
) -> dict[str, ObservedValues]:
    """Run uint8 [N, H, W, 3] through the graph and return the values of the named activations."""
    names = sorted(set(names))
    session = _session_with_outputs(model, names)
    random = np.random.default_rng(seed)
    samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    extremes: dict[str, list[Range]] = {name: [] for name in names}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        for name, values in zip(names, session.run(names, {INPUT: batch}), strict=True):
            flat = values.reshape(-1)
            extremes[name].append((float(flat.min()), float(flat.max())))
            count = SAMPLES_PER_IMAGE * len(batch)
            samples[name].append(flat if flat.size <= count else flat[random.integers(0, flat.size, count)])
    return {
        name: ObservedValues(
            min(low for low, _ in ranges), max(high for _, high in ranges), np.concatenate(samples[name])
        )
        for name, ranges in extremes.items()
    }


def _session_with_outputs(model: onnx.ModelProto, names: list[str]) -> ort.InferenceSession:
    """Return a CPU session that gives the named values, without the optimizations that would remove some of them."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])


def choose_range(observed: ObservedValues, method: Calibration) -> Range:
    """Return the range of one activation; it always includes 0, so that padding is exact."""
    low, high = min(observed.lowest, 0.0), max(observed.highest, 0.0)
    if method is Calibration.PERCENTILE:
        outside = (100 - COVERED_PERCENT) / 2
        cut_low, cut_high = np.percentile(observed.sample, [outside, 100 - outside])
    elif method is Calibration.ENTROPY:
        cut_high = _entropy_threshold(np.abs(observed.sample))
        cut_low = -cut_high
    else:
        return low, high
    return max(low, min(float(cut_low), 0.0)), min(high, max(float(cut_high), 0.0))


def _entropy_threshold(magnitudes: NDArray[np.float32]) -> float:
    """Return the threshold for absolute values at which the divergence is least."""
    counts, edges = np.histogram(magnitudes, HISTOGRAM_BINS, range=(0.0, max(float(magnitudes.max()), 1e-12)))
    # Zeros, which ReLU makes many of, are exact at any scale and would hide the rest.
    counts[0] = 0
    if not counts.any():
        return float(edges[-1])
    candidates = range(LEVELS, HISTOGRAM_BINS + 1, HISTOGRAM_BINS // LEVELS)
    return float(edges[min(candidates, key=lambda bins: _divergence(counts, bins))])


def _divergence(counts: NDArray[np.int64], bins: int) -> float:
    """Return the Kullback-Leibler divergence of the first `bins`, merged into LEVELS, from the whole histogram."""
    reference = counts[:bins].astype(np.float64)
    filled = reference > 0
    starts = np.linspace(0, bins, LEVELS, endpoint=False).astype(int)
    level = np.repeat(np.arange(LEVELS), np.diff([*starts, bins]))
    mass, places = np.add.reduceat(reference, starts), np.add.reduceat(filled.astype(np.float64), starts)
    merged = np.where(filled, (mass / np.maximum(places, 1))[level], 0.0)
    reference[-1] += counts[bins:].sum()
    reference, merged = reference / reference.sum(), merged / max(merged.sum(), 1e-12)
    positive = reference > 0
    return float((reference[positive] * np.log(reference[positive] / np.maximum(merged[positive], 1e-12))).sum())

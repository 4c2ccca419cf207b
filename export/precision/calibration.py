"""The range of every activation that 8 bits must cover, seen on real images and cut off by one of three methods.

ONNX Runtime's own calibrators hold every activation of every image in memory, and go through all of them again for
each method. Here one pass keeps the extremes and a sample, and all methods are worked out from that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from tagmill.bundles.spec import INPUT

#: images of one call: all activations of a call are in memory at once
BATCH = 4
#: values of one activation that are kept of each image
SAMPLED = 2048
#: share of the values, in percent, that the percentile method covers
COVERED = 99.99
#: bins of the histogram of the entropy method, and the levels that it is squeezed into
BINS, LEVELS = 2048, 128


class Calibration(StrEnum):
    """How the range of an activation is chosen from what was seen."""

    #: all that was seen
    MINMAX = "minmax"
    #: 99.99 % of what was seen
    PERCENTILE = "percentile"
    #: what loses least information in 128 levels: least Kullback-Leibler divergence (TensorRT, GTC 2017, S7310)
    ENTROPY = "entropy"


@dataclass
class Seen:
    """The values of one activation."""

    lowest: float
    highest: float
    sample: NDArray[np.float32]


Range = tuple[float, float]


def observe(model: onnx.ModelProto, names: Iterable[str], images: NDArray[np.uint8], seed: int) -> dict[str, Seen]:
    """Run uint8 [N, H, W, 3] through the graph and return what the named activations held."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted(set(names))
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    extremes: dict[str, list[Range]] = {name: [] for name in names}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        for name, values in zip(names, session.run(names, {INPUT: batch}), strict=True):
            flat = values.reshape(-1)
            extremes[name].append((float(flat.min()), float(flat.max())))
            room = SAMPLED * len(batch)
            parts[name].append(flat if flat.size <= room else flat[random.integers(0, flat.size, room)])
    return {
        name: Seen(min(low for low, _ in found), max(high for _, high in found), np.concatenate(parts[name]))
        for name, found in extremes.items()
    }


def choose(seen: Seen, method: Calibration) -> Range:
    """Return the range of one activation; 0 is always in it, so that padding is exact."""
    low, high = min(seen.lowest, 0.0), max(seen.highest, 0.0)
    if method is Calibration.PERCENTILE:
        outside = (100 - COVERED) / 2
        cut_low, cut_high = np.percentile(seen.sample, [outside, 100 - outside])
    elif method is Calibration.ENTROPY:
        cut_high = _least_divergence(np.abs(seen.sample))
        cut_low = -cut_high
    else:
        return low, high
    return max(low, min(float(cut_low), 0.0)), min(high, max(float(cut_high), 0.0))


def _least_divergence(sizes: NDArray[np.float32]) -> float:
    """Return where to cut off absolute values."""
    counts, edges = np.histogram(sizes, BINS, range=(0.0, max(float(sizes.max()), 1e-12)))
    # Zeros, of which ReLU leaves many, are exact at any scale and would hide the rest.
    counts[0] = 0
    if not counts.any():
        return float(edges[-1])
    kept = range(LEVELS, BINS + 1, BINS // LEVELS)
    return float(edges[min(kept, key=lambda bins: _divergence(counts, bins))])


def _divergence(counts: NDArray[np.int64], bins: int) -> float:
    """Return the Kullback-Leibler divergence of the first `bins`, squeezed into LEVELS, from the whole."""
    reference = counts[:bins].astype(np.float64)
    filled = reference > 0
    starts = np.linspace(0, bins, LEVELS, endpoint=False).astype(int)
    level = np.repeat(np.arange(LEVELS), np.diff([*starts, bins]))
    mass, places = np.add.reduceat(reference, starts), np.add.reduceat(filled.astype(np.float64), starts)
    squeezed = np.where(filled, (mass / np.maximum(places, 1))[level], 0.0)
    reference[-1] += counts[bins:].sum()
    reference, squeezed = reference / reference.sum(), squeezed / max(squeezed.sum(), 1e-12)
    own = reference > 0
    return float((reference[own] * np.log(reference[own] / np.maximum(squeezed[own], 1e-12))).sum())

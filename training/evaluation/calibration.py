"""Calibrate scores: one temperature for all labels, and a suggested threshold for each label."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

#: range of the temperatures to search, as natural logarithms
LOG_TEMPERATURES = (-2.5, 2.5)
#: precision that a suggested threshold must reach
PRECISION = 0.95


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[Any]) -> float:
    """Return the temperature to divide logits [N, labels] by, which maximizes the likelihood of held-out images.

    Targets int64 [N] are one label each (softmax); 0 and 1 of [N, labels] are any number (sigmoid). This is
    temperature scaling (Guo et al., arXiv 1706.04599); it does not change the order of the labels. Return 1.0 without
    images.
    """
    if not len(logits):
        return 1.0
    values = logits.astype(np.float64)
    found = minimize_scalar(lambda log: _loss(values / np.exp(log), targets), bounds=LOG_TEMPERATURES, method="bounded")
    return float(f"{np.exp(found.x):.5g}")


def probabilities(logits: NDArray[np.float32], temperature: float, multilabel: bool = False) -> NDArray[np.float32]:
    """Return the softmax or, with `multilabel`, sigmoid of logits / temperature, float32 [N, labels]."""
    scaled = logits.astype(np.float64) / temperature
    scores: NDArray[np.float32] = (expit(scaled) if multilabel else softmax(scaled, axis=1)).astype(np.float32)
    return scores


def suggest_thresholds(
    scores: NDArray[np.float32], targets: NDArray[Any], labels: Sequence[str], precision: float = PRECISION
) -> dict[str, float]:
    """Return for each label the lowest score at which `precision` of the held-out images that reach it have the label.

    If images have one label each, only the label with the highest score counts as predicted. A label that never
    reaches that precision is left out.
    """
    thresholds = {}
    for number, label in enumerate(labels):
        if targets.ndim == 1:
            predicted = scores.argmax(1) == number
            own, right = scores[predicted, number], targets[predicted] == number
        else:
            own, right = scores[:, number], targets[:, number] > 0
        order = np.argsort(-own, kind="stable")
        reached = np.cumsum(right[order]) / np.arange(1, len(order) + 1) >= precision
        if reached.any():
            # Rounded down, so that the image that sets the threshold reaches it.
            thresholds[label] = math.floor(float(own[order][np.flatnonzero(reached)[-1]]) * 1000) / 1000
    return thresholds


def _loss(logits: NDArray[np.float64], targets: NDArray[Any]) -> float:
    """Return the mean negative log-likelihood."""
    if targets.ndim == 1:
        return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())
    return float(-np.where(targets > 0, log_expit(logits), log_expit(-logits)).mean())

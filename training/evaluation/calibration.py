"""Make scores mean what they say: one temperature for all labels, and a suggested least score for each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

#: temperatures that are looked at, as natural logarithms
RANGE = (-2.5, 2.5)
#: share of right answers that a suggested threshold is to reach
PRECISION = 0.95


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[Any]) -> float:
    """Return what to divide logits [N, labels] by, so that the likelihood of the held-out images is highest.

    Targets int64 [N] are one label each (softmax); 0/1 of [N, labels] are any number (sigmoid). Temperature scaling
    (Guo et al., arXiv 1706.04599); it changes no ranking. Returns 1.0 without images.
    """
    if not len(logits):
        return 1.0
    values = logits.astype(np.float64)
    found = minimize_scalar(lambda log: _loss(values / np.exp(log), targets), bounds=RANGE, method="bounded")
    return float(f"{np.exp(found.x):.5g}")


def probabilities(logits: NDArray[np.float32], temperature: float, multilabel: bool = False) -> NDArray[np.float32]:
    """Return float32 [N, labels]."""
    scaled = logits.astype(np.float64) / temperature
    found: NDArray[np.float32] = (expit(scaled) if multilabel else softmax(scaled, axis=1)).astype(np.float32)
    return found


def suggest_thresholds(
    scores: NDArray[np.float32], targets: NDArray[Any], labels: Sequence[str], precision: float = PRECISION
) -> dict[str, float]:
    """Return for each label the least score from which on `precision` of the held-out images with it are right.

    For one label an image, only the label with the highest score counts as given. A label that never gets there is
    left out.
    """
    found = {}
    for number, label in enumerate(labels):
        if targets.ndim == 1:
            given = scores.argmax(1) == number
            own, right = scores[given, number], targets[given] == number
        else:
            own, right = scores[:, number], targets[:, number] > 0
        order = np.argsort(-own, kind="stable")
        reached = np.cumsum(right[order]) / np.arange(1, len(order) + 1) >= precision
        if reached.any():
            # Rounded down: the image that the threshold was read off must pass it.
            found[label] = math.floor(float(own[order][np.flatnonzero(reached)[-1]]) * 1000) / 1000
    return found


def _loss(logits: NDArray[np.float64], targets: NDArray[Any]) -> float:
    if targets.ndim == 1:
        return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())
    return float(-np.where(targets > 0, log_expit(logits), log_expit(-logits)).mean())

"""How good predictions are: accuracy, F1, average precision, IoU, calibration. Needs no torch."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import ConfigurationError

#: mask value of a pixel that counts neither in training nor in a figure
IGNORE = 255
#: equal-width bins that confidences are sorted into
BINS = 15
#: a multi-label score from which on its label counts as given
GIVEN = 0.5
#: times that outcomes are drawn to see what chance alone does to the calibration error
DRAWS = 100


def classification(scores: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, top5, macro_f1, ece, ece_by_chance and per_class accuracy for scores [N, labels].

    Labels without image are in none of them.
    """
    predicted = scores.argmax(axis=1)
    table = confusion(predicted, targets, len(labels))
    right, true, found = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    seen = true > 0
    f1 = 2 * right[seen] / np.maximum(true + found, 1)[seen]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return {
        "accuracy": rounded(right.sum() / max(1, table.sum())),
        "images": len(targets),
        "top5": rounded((best == targets[:, None]).any(axis=1).mean()) if len(targets) else 0.0,
        "macro_f1": rounded(f1.mean()) if seen.any() else 0.0,
        "ece": rounded(calibration_error(scores, targets)),
        "ece_by_chance": rounded(chance_error(scores.max(axis=1))) if len(targets) else 0.0,
        "per_class": {labels[i]: rounded(right[i] / true[i]) for i in np.flatnonzero(seen).tolist()},
    }


def multilabel(scores: NDArray[np.float32], targets: NDArray[np.uint8], labels: Sequence[str]) -> dict[str, Any]:
    """Return mean_ap, macro_f1 at a score of 0.5, ece, ece_by_chance and per_class_ap.

    Scores and targets of 0 and 1 are [N, labels].

    Average precision is scikit-learn's: the area under the steps of precision over recall. Labels that no image has
    are in none of them.
    """
    try:
        from sklearn.metrics import average_precision_score
    except ImportError as error:
        raise ConfigurationError("average precision needs scikit-learn: pip install 'tagmill[train]'") from error
    seen = np.flatnonzero(targets.any(axis=0))
    precisions = {labels[i]: rounded(average_precision_score(targets[:, i], scores[:, i])) for i in seen.tolist()}
    given = scores[:, seen] >= GIVEN
    right, named = (given & (targets[:, seen] == 1)).sum(axis=0), given.sum(axis=0) + targets[:, seen].sum(axis=0)
    return {
        "mean_ap": rounded(sum(precisions.values()) / len(precisions)) if precisions else 0.0,
        "images": len(targets),
        "macro_f1": rounded((2 * right / named).mean()) if precisions else 0.0,
        "ece": rounded(calibration_error(scores, targets)),
        "ece_by_chance": rounded(chance_error(scores.ravel())) if len(targets) else 0.0,
        "per_class_ap": precisions,
    }


def calibration_error(scores: NDArray[np.float32], targets: NDArray[Any], bins: int = BINS) -> float:
    """Return the expected calibration error: how far the mean score of a bin is from how often it is right, on average.

    For scores [N, labels] and targets int64 [N] it is that of the top score (Guo et al. 2017, On Calibration of Modern
    Neural Networks, section 2); for multi-label targets [N, labels] each score is one of its own.
    """
    if not len(targets):
        return 0.0
    if targets.ndim == 2:
        confidence, right = scores.ravel(), targets.ravel().astype(np.float64)
    else:
        confidence, right = scores.max(axis=1), (scores.argmax(axis=1) == targets).astype(np.float64)
    place = _bins(confidence, bins)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def chance_error(confidence: NDArray[np.float32], bins: int = BINS) -> float:
    """Return the calibration error that scores [N] which mean just what they say would show on so few images.

    The mean over outcomes drawn by the scores themselves: consistency resampling (Bröcker and Smith 2007, Increasing
    the Reliability of Reliability Diagrams).
    """
    random = np.random.default_rng(0)
    place = _bins(confidence, bins)
    found = []
    for _ in range(DRAWS):
        right = random.random(len(confidence)) < confidence
        found.append(np.abs(np.bincount(place, weights=right - confidence, minlength=bins)).sum() / len(confidence))
    return float(np.mean(found))


def _bins(confidence: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def uncalibrated(scores: NDArray[np.float32], temperature: float, multilabel: bool = False) -> NDArray[np.float32]:
    """Return the scores at temperature 1 of scores [N, labels] that a softmax or, multi-label, sigmoids gave.

    Probabilities and odds of logits divided by T are the T-th roots of those of the logits.
    """
    known = np.clip(scores.astype(np.float64), np.finfo(np.float32).tiny, 1.0)
    if multilabel:
        odds = known / np.clip(1.0 - known, np.finfo(np.float32).eps, 1.0)
        found = 1.0 / (1.0 + odds**-temperature)
    else:
        powers = (known / known.max(axis=1, keepdims=True)) ** temperature
        found = powers / powers.sum(axis=1, keepdims=True)
    return np.asarray(found, dtype=np.float32)


def segmentation(table: NDArray[np.int64], labels: Sequence[str], images: int) -> dict[str, Any]:
    """Return mean_iou, pixel_accuracy and per_class_iou of a confusion table. Labels that no mask has are in none.

    Pixels that are wrongly given such a label still cost the label that they have.
    """
    right, true = np.diag(table), table.sum(axis=1)
    union = table.sum(axis=0) + true - right
    seen = true > 0
    ious = right[seen] / union[seen]
    return {
        "mean_iou": rounded(ious.mean()) if seen.any() else 0.0,
        "images": images,
        "pixel_accuracy": rounded(right.sum() / max(1, table.sum())),
        "per_class_iou": {labels[i]: rounded(right[i] / union[i]) for i in np.flatnonzero(seen).tolist()},
    }


def confusion(predicted: NDArray[Any], targets: NDArray[Any], labels: int) -> NDArray[np.int64]:
    """Return int64 [true, predicted] counts of images, or of pixels that count."""
    pairs = targets.astype(np.int64) * labels + predicted
    return np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def mask_confusion(predicted: NDArray[np.uint8], masks: NDArray[np.uint8], labels: int) -> NDArray[np.int64]:
    """Return int64 [true, predicted] counts of pixels; those of 255 in `masks` are left out."""
    counted = masks != IGNORE
    return confusion(predicted[counted], masks[counted], labels)


def rounded(value: float) -> float:
    """Return a share with the digits that a test set of some ten thousand images can show."""
    return round(float(value), 5)


def interval(share: float, images: int) -> tuple[float, float]:
    """Return between what shares the true one lies, in 95 of 100 test sets of that size (Wilson 1927)."""
    z = 1.96
    center = (share + z * z / (2 * images)) / (1 + z * z / images)
    reach = z / (1 + z * z / images) * sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    return max(0.0, center - reach), min(1.0, center + reach)


def shares(right: NDArray[Any], of: NDArray[Any]) -> list[float | None]:
    """Return shares, None for each 0 in `of`."""
    return [float(one / all_) if all_ else None for one, all_ in zip(right, of, strict=True)]

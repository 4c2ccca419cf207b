"""Figures of predictions: accuracy, F1, average precision, IoU, calibration error. Imports no torch."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import ConfigurationError

#: mask value of a pixel that is left out of training and of all figures
IGNORE = 255
#: number of bins of equal width for calibration errors
BINS = 15
#: multi-label score at or above which the label counts as predicted
GIVEN = 0.5
#: random draws to estimate the calibration error that chance alone causes
DRAWS = 100

#: what each figure means, for the readers of a model card; figures that are not here are counts or are per label
DESCRIPTIONS = {
    "accuracy": "Accuracy: the share of images whose best label is right; also given for each label.",
    "top5": "Top 5: the share of images whose label is among the five best.",
    "mean_ap": "Mean average precision: the mean over the labels of the area under precision over recall.",
    "mean_iou": "Mean IoU: the mean over the labels of intersection over union of their pixels.",
    "pixel_accuracy": "Pixel accuracy: the share of pixels that are right.",
    "macro_f1": "Macro F1: the mean of the F1 of all labels.",
    "ece": "Expected calibration error (15 bins, [arXiv 1706.04599](https://arxiv.org/abs/1706.04599)): the mean "
    "difference between a score and the share of predictions with that score that are right.",
}


def classification(scores: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, top5, macro_f1, ece, ece_by_chance and per_class accuracy of scores [N, labels].

    Labels without an image are left out of macro_f1 and per_class.
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

    Scores, and targets of 0 and 1, are [N, labels]. Average precision is that of scikit-learn: the area under the
    steps of precision over recall. Labels without an image are left out of mean_ap, macro_f1 and per_class_ap.
    """
    try:
        from sklearn.metrics import average_precision_score
    except ImportError as error:
        raise ConfigurationError("average precision needs scikit-learn: pip install 'tagmill[train]'") from error
    seen = np.flatnonzero(targets.any(axis=0))
    average_precisions = {
        labels[i]: rounded(average_precision_score(targets[:, i], scores[:, i])) for i in seen.tolist()
    }
    given = scores[:, seen] >= GIVEN
    right, total = (given & (targets[:, seen] == 1)).sum(axis=0), given.sum(axis=0) + targets[:, seen].sum(axis=0)
    return {
        "mean_ap": rounded(sum(average_precisions.values()) / len(average_precisions)) if average_precisions else 0.0,
        "images": len(targets),
        "macro_f1": rounded((2 * right / total).mean()) if average_precisions else 0.0,
        "ece": rounded(calibration_error(scores, targets)),
        "ece_by_chance": rounded(chance_error(scores.ravel())) if len(targets) else 0.0,
        "per_class_ap": average_precisions,
    }


def calibration_error(scores: NDArray[np.float32], targets: NDArray[Any], bins: int = BINS) -> float:
    """Return the expected calibration error: the mean over bins of the gap between score and share that is right.

    For scores [N, labels] and targets int64 [N] only the top score of each image counts (Guo et al. 2017, On
    Calibration of Modern Neural Networks, section 2); for multi-label targets [N, labels] all scores do.
    """
    if not len(targets):
        return 0.0
    if targets.ndim == 2:
        confidence, right = scores.ravel(), targets.ravel().astype(np.float64)
    else:
        confidence, right = scores.max(axis=1), (scores.argmax(axis=1) == targets).astype(np.float64)
    bin_of = _bins(confidence, bins)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def chance_error(confidence: NDArray[np.float32], bins: int = BINS) -> float:
    """Return the calibration error that perfectly calibrated scores [N] would show by chance.

    It is the mean over outcomes that are drawn with the scores as probabilities: consistency resampling (Bröcker and
    Smith 2007, Increasing the Reliability of Reliability Diagrams).
    """
    random = np.random.default_rng(0)
    bin_of = _bins(confidence, bins)
    errors = []
    for _ in range(DRAWS):
        right = random.random(len(confidence)) < confidence
        errors.append(np.abs(np.bincount(bin_of, weights=right - confidence, minlength=bins)).sum() / len(confidence))
    return float(np.mean(errors))


def _bins(confidence: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """Return the bin of each score. A bin holds its upper edge, and the first one 0 as well."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def uncalibrated(scores: NDArray[np.float32], temperature: float, multilabel: bool = False) -> NDArray[np.float32]:
    """Return the scores at temperature 1 of scores [N, labels] of a softmax or, for multi-label, of sigmoids.

    Dividing logits by T takes the T-th root of probabilities (softmax) or odds (sigmoid); this undoes it.
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
    """Return mean_iou, pixel_accuracy and per_class_iou of a confusion table, int64 [true, predicted] pixels.

    Labels that no mask has are left out of mean_iou and per_class_iou. Pixels that are wrongly predicted as such a
    label still lower the figure of their true label.
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
    """Return the confusion table of label indexes [N], int64 [true, predicted]."""
    pairs = targets.astype(np.int64) * labels + predicted
    return np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def mask_confusion(predicted: NDArray[np.uint8], masks: NDArray[np.uint8], labels: int) -> NDArray[np.int64]:
    """Return the confusion table of pixels, int64 [true, predicted]; pixels of 255 in `masks` are left out."""
    counted = masks != IGNORE
    return confusion(predicted[counted], masks[counted], labels)


def rounded(value: float) -> float:
    """Return a share, rounded to the digits that a test set of ten thousand images can resolve."""
    return round(float(value), 5)


def interval(share: float, images: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share measured on that many images (Wilson 1927)."""
    z = 1.96
    center = (share + z * z / (2 * images)) / (1 + z * z / images)
    margin = z / (1 + z * z / images) * sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    return max(0.0, center - margin), min(1.0, center + margin)


def shares(right: NDArray[Any], of: NDArray[Any]) -> list[float | None]:
    """Return `right` divided by `of`, None for each 0 in `of`."""
    return [float(one / all_) if all_ else None for one, all_ in zip(right, of, strict=True)]

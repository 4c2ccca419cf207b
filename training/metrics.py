"""How good predictions are: accuracy, F1, IoU. Needs no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.dataset import IGNORE


def classification(scores: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, top5, macro_f1 and per_class accuracy for scores [N, labels]; labels without picture are out."""
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
        "per_class": {labels[i]: rounded(right[i] / true[i]) for i in np.flatnonzero(seen).tolist()},
    }


def segmentation(table: NDArray[np.int64], labels: Sequence[str], images: int) -> dict[str, Any]:
    """Return mean_iou, pixel_accuracy and per_class_iou of a confusion table; labels in neither side are out."""
    right = np.diag(table)
    union = table.sum(axis=0) + table.sum(axis=1) - right
    seen = union > 0
    ious = right[seen] / union[seen]
    return {
        "mean_iou": rounded(ious.mean()) if seen.any() else 0.0,
        "images": images,
        "pixel_accuracy": rounded(right.sum() / max(1, table.sum())),
        "per_class_iou": {labels[i]: rounded(right[i] / union[i]) for i in np.flatnonzero(seen).tolist()},
    }


def confusion(predicted: NDArray[Any], targets: NDArray[Any], labels: int) -> NDArray[np.int64]:
    """Return int64 [true, predicted] counts; targets of 255 are left out."""
    counted = targets != IGNORE
    pairs = targets[counted].astype(np.int64) * labels + predicted[counted]
    return np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def rounded(value: float) -> float:
    """Return a share with the digits that a test set of some ten thousand pictures can show."""
    return round(float(value), 5)

"""The losses and validation metrics of a classifier, for one label an image and for several."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.tasks.metrics import multilabel
from training.data.arrays import Arrays
from training.evaluation.calibration import probabilities
from training.evaluation.predict import all_logits


def label_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return cross-entropy for int64 [N], or the sum of binary cross-entropies for 0/1 of [N, labels]."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    smoothed = targets.float() * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="sum") / len(logits)


def count_correct(logits: Tensor, targets: Tensor) -> Tensor:
    """Return how many images are right, a scalar; with several labels an image counts by its share of right labels."""
    if targets.ndim == 1:
        return (logits.argmax(1) == targets).sum()
    return ((logits > 0) == (targets > 0)).float().mean(1).sum()


def validate(network: nn.Module, validation: Arrays, device: torch.device) -> dict[str, float]:
    """Return the validation metrics of a network."""
    return validation_metrics(all_logits(network, validation.pixels, device), validation.targets)


def validation_metrics(logits: NDArray[np.float32], targets: NDArray[Any]) -> dict[str, float]:
    """Return the loss and the metric that decides which epoch is kept, for logits [N, labels]."""
    loss = float(label_loss(torch.from_numpy(logits), torch.from_numpy(targets), 0.0))
    if targets.ndim == 1:
        return {"validation_loss": loss, "validation_accuracy": float((logits.argmax(1) == targets).mean())}
    # The loop reports NaN logits: it checks the loss.
    figures = multilabel(
        probabilities(np.nan_to_num(logits), 1.0, True), targets, [str(n) for n in range(targets.shape[1])]
    )
    return {"validation_loss": loss, "validation_mean_ap": float(np.nan_to_num(figures["mean_ap"]))}

"""What a classifier is trained for and judged by, for one label an image and for several."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name every reader of torch code knows

from tagmill.tasks.figures import multilabel
from training.data.arrays import Arrays
from training.evaluation.calibration import probabilities
from training.evaluation.predict import all_logits


def label_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return cross-entropy for int64 [N], or the sum of binary cross-entropies for 0/1 of [N, labels]."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    wanted = targets.float() * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(logits)


def right_answers(logits: Tensor, targets: Tensor) -> Tensor:
    """Return how many images are right, a scalar; of several labels the share that is."""
    if targets.ndim == 1:
        return (logits.argmax(1) == targets).sum()
    return ((logits > 0) == (targets > 0)).float().mean(1).sum()


def validate(network: nn.Module, held: Arrays, device: torch.device) -> dict[str, float]:
    """Return the figures of an epoch over the held-out images."""
    return judge(all_logits(network, held.pixels, device), held.targets)


def judge(logits: NDArray[np.float32], targets: NDArray[Any]) -> dict[str, float]:
    """Return the loss and the figure that decides which epoch is kept, of logits [N, labels]."""
    loss = float(label_loss(torch.from_numpy(logits), torch.from_numpy(targets), 0.0))
    if targets.ndim == 1:
        return {"validation_loss": loss, "validation_accuracy": float((logits.argmax(1) == targets).mean())}
    # Logits that are no numbers are told by the loop, of the loss.
    figures = multilabel(
        probabilities(np.nan_to_num(logits), 1.0, True), targets, [str(n) for n in range(targets.shape[1])]
    )
    return {"validation_loss": loss, "validation_mean_ap": float(np.nan_to_num(figures["mean_ap"]))}

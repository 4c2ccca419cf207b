"""The order of the training images, and how often each is drawn."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.data.arrays import Arrays
from training.data.split import label_groups


def balancing_weights(arrays: Arrays) -> Tensor:
    """Return the weight of each image that makes every (source, category) equally likely, float64 [N].

    An image with several labels counts for its rarest label.
    """
    labels = arrays.targets.shape[1] if arrays.targets.ndim == 2 else int(arrays.targets.max()) + 1
    _, group, counts = np.unique(label_groups(arrays, labels), return_inverse=True, return_counts=True)
    return torch.from_numpy(1.0 / counts[group])


def batches(count: int, size: int, weights: Tensor | None, generator: torch.Generator) -> Sequence[Tensor]:
    """Return the indices of one epoch in batches, int64: shuffled or, with weights, drawn with replacement."""
    if weights is None:
        order = torch.randperm(count, generator=generator)
    else:
        order = torch.multinomial(weights, count, replacement=True, generator=generator)
    split: Sequence[Tensor] = order.split(size)  # type: ignore[no-untyped-call]  # torch leaves split untyped
    # Batch normalization cannot learn from one image.
    return split[:-1] if len(split) > 1 and len(split[-1]) == 1 else split

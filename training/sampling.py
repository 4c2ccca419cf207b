"""In which order, and how often, the training pictures are shown."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def balancing_weights(sources: NDArray[np.int64], targets: NDArray[np.int64]) -> Tensor:
    """Return a weight a picture that makes every (source, category) as likely as every other; float64 [N]."""
    groups = sources * (int(targets.max()) + 1) + targets
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return torch.from_numpy(1.0 / counts[group])


def batches(count: int, size: int, weights: Tensor | None, generator: torch.Generator) -> Sequence[Tensor]:
    """Return the positions of one epoch, batch by batch: shuffled or, with weights, drawn with replacement."""
    if weights is None:
        order = torch.randperm(count, generator=generator)
    else:
        order = torch.multinomial(weights, count, replacement=True, generator=generator)
    found: Sequence[Tensor] = order.split(size)  # type: ignore[no-untyped-call]  # torch leaves split untyped
    # Batch normalisation cannot learn from one picture.
    return found[:-1] if len(found) > 1 and len(found[-1]) == 1 else found

"""A running mean of the weights, which is measured and kept instead of the last ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return the exponential moving average of weights and buffers; `decay` is what stays at each step.

    The first steps count more, so that the average of a short training does not hold on to the random start:
    min(decay, (1 + t) / (10 + t)), as TensorFlow's ExponentialMovingAverage has it.
    """

    @torch.no_grad()
    def follow(means: Sequence[Tensor], values: Sequence[Tensor], steps: Tensor | int) -> None:
        means, values = list(means), list(values)
        stays = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if torch.is_floating_point(means[0]):
            torch._foreach_lerp_(means, values, 1 - stays)
        else:
            torch._foreach_copy_(means, values)  # counters

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)

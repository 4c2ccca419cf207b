"""A running mean of the weights, which is measured and kept instead of the last ones."""

from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """The exponential moving average of a network's weights and buffers; `decay` is what stays at each step.

    The first steps count more, so that the average of a short training does not hold on to the random start:
    min(decay, (1 + t) / (10 + t)), as TensorFlow's ExponentialMovingAverage has it. torch's AveragedModel computes the
    same, but asks the GPU for its count of steps and waits for the answer, several times a step.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = deepcopy(network)
        self._decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """Take the weights as they are now into the mean; the first ones are the mean."""
        steps = int(self.n_averaged)
        stays = min(self._decay, (1 + steps) / (10 + steps)) if steps else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(network), strict=True))
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in real], [value for _, value in real], 1 - stays)
        for mean, value in pairs:
            if not mean.is_floating_point():  # counters
                mean.copy_(value)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(chain(network.parameters(), network.buffers()))

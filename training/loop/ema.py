"""The exponential moving average (EMA) of the weights, which is validated and saved instead of the last weights."""

from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """The EMA of a network's weights and buffers; `decay` is the share of the average that each step keeps.

    The decay of step t is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage, so that the EMA
    of a short training forgets the random start. torch's AveragedModel computes the same, but reads its step count from
    the GPU, and waits for it, several times a step.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = deepcopy(network)
        self._decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """Add the current weights to the average; the first ones replace it."""
        steps = int(self.n_averaged)
        decay = min(self._decay, (1 + steps) / (10 + steps)) if steps else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(network), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floating], [value for _, value in floating], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():  # the step counters of batch normalization
                average.copy_(value)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(chain(network.parameters(), network.buffers()))

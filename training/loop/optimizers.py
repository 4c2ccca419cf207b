"""The optimizers of the recipes."""

from enum import StrEnum

import torch
from torch import nn

#: how much faster the shifts of batch normalization learn than the weights (airbench, arXiv 2404.00498)
SHIFT_FACTOR = 64.0
MOMENTUM = 0.85


class Optimizer(StrEnum):
    """How the weights follow the gradient."""

    #: Adam with decoupled weight decay (arXiv 1711.05101)
    ADAM = "adam"
    #: Nesterov momentum, with a higher rate for the shifts of batch normalization
    SGD = "sgd"


def new_optimizer(kind: Optimizer, network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return an optimizer for what can be learned of a network."""
    if kind is Optimizer.ADAM:
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return torch.optim.Adam(learned, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True, fused=True)
    shifts = [
        layer.bias for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.bias.requires_grad
    ]
    known = {id(shift) for shift in shifts}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    # The decay that a step takes off is rate x decay: the faster shifts get no more of it than the weights.
    groups = [
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
        {"params": shifts, "lr": lr * SHIFT_FACTOR, "weight_decay": weight_decay / SHIFT_FACTOR},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], momentum=MOMENTUM, nesterov=True)

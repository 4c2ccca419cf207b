"""The optimizers of the recipes."""

from enum import StrEnum

import torch
from torch import nn

#: learning rate of the biases of batch normalization, as a multiple of that of the weights (airbench, arXiv 2404.00498)
BIAS_FACTOR = 64.0
MOMENTUM = 0.85


class Optimizer(StrEnum):
    """The optimizer of a recipe."""

    #: Adam with decoupled weight decay (arXiv 1711.05101)
    ADAM = "adam"
    #: SGD with Nesterov momentum, and a higher rate for the biases of batch normalization
    SGD = "sgd"


def new_optimizer(kind: Optimizer, network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return an optimizer for the parameters of a network that require a gradient."""
    if kind is Optimizer.ADAM:
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trainable, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True, fused=True)
    biases = [
        layer.bias for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.bias.requires_grad
    ]
    known = {id(bias) for bias in biases}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    # A step decays by rate x weight_decay: divided, the biases decay no faster than the weights.
    groups = [
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
        {"params": biases, "lr": lr * BIAS_FACTOR, "weight_decay": weight_decay / BIAS_FACTOR},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], momentum=MOMENTUM, nesterov=True)

"""Tagmill's classifiers. Each takes float32 [N, 3, H, W] pixels of 0..255 and normalizes them itself."""

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from training.models.airbench import Mirrored, Whitening, airbench_layers


class Arch(StrEnum):
    """The names of Tagmill's classifiers, as a checkpoint stores them."""

    #: the tutorials' network for MNIST: two dense layers
    MLP = "mlp"
    #: the network of TensorFlow's CIFAR-10 tutorial, layer for layer
    SIMPLE_CNN = "simple-cnn"
    #: a small residual network for photos of about 100 pixels
    RESNET = "resnet"
    #: a network for images of 32 pixels that learns in few epochs
    AIRBENCH = "airbench"


class Normalize(nn.Module):
    """Subtract the mean of the training pixels and divide by their standard deviation, channel by channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.full((3, 1, 1), 255.0))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and the standard deviation, both [3], in levels of 0..255."""
        self.mean.copy_(mean.view(3, 1, 1))
        self.deviation.copy_(deviation.view(3, 1, 1).clamp_min(1.0))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.deviation


def simple_cnn(size: int, labels: int) -> nn.Sequential:
    """Return three convolutions and two dense layers: 122,570 parameters for 32 pixels and 10 labels."""
    side = ((size - 2) // 2 - 2) // 2 - 2
    if side < 1:
        raise ValueError(f"the simple CNN needs images of at least 18 pixels, not {size}")
    return nn.Sequential(
        Normalize(),
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * side * side, 64),
        nn.ReLU(),
        nn.Linear(64, labels),
    )


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut, which is a 1x1 convolution if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.second(self.first(features)) + self.shortcut(features))


def body() -> list[nn.Module]:
    """Return the stages that the resnet and the unets share: strides 2, 4, 8, 8, 16, 16, 32."""
    return [
        convolution(3, 24, 2),
        Residual(24, 24, 2),
        Residual(24, 48, 2),
        Residual(48, 48),
        Residual(48, 96, 2),
        Residual(96, 96),
        Residual(96, 128, 2),
    ]


def resnet(size: int, labels: int) -> nn.Sequential:
    """Return a stem, seven residual blocks over four scales, and global average pooling: 0.95 million parameters."""
    if size < 32:
        raise ValueError(f"the resnet needs images of at least 32 pixels, not {size}")
    return nn.Sequential(
        Normalize(),
        *body(),
        Residual(128, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, labels),
    )


def airbench(size: int, labels: int) -> nn.Sequential:
    """Return a normalization and the network of training.models.airbench."""
    if size < 17:
        raise ValueError(f"the airbench network needs images of at least 17 pixels, not {size}")
    return Mirrored(Normalize(), *airbench_layers(labels))


def mlp(size: int, labels: int) -> nn.Sequential:
    """Return Flatten, Dense 128, Dense n on gray images: 101,770 parameters for 28 pixels and 10 labels."""
    return nn.Sequential(
        Normalize(), Gray(), nn.Flatten(), nn.Linear(size * size, 128), nn.ReLU(), nn.Linear(128, labels)
    )


class Gray(nn.Module):
    """The mean of the channels, [N, 1, H, W]."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean(1, keepdim=True)


BUILDERS: dict[str, Callable[[int, int], nn.Sequential]] = {
    Arch.MLP: mlp,
    Arch.SIMPLE_CNN: simple_cnn,
    Arch.RESNET: resnet,
    Arch.AIRBENCH: airbench,
}


def normalization(network: nn.Module) -> Normalize:
    """Return the normalization layer, which a recipe fits to its training pixels."""
    return next(layer for layer in network.modules() if isinstance(layer, Normalize))


def fit_to_pixels(network: nn.Module, pixels: Tensor) -> None:
    """Fit the normalization and the whitening, which are not learned, to float32 [N, 3, H, W]."""
    normalize = normalization(network)
    normalize.fit(pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3)))
    for layer in network.modules():
        if isinstance(layer, Whitening):
            layer.fit(normalize(pixels))


def parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())

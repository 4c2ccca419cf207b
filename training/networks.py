"""The networks of the recipes. Each takes float32 [N, 3, H, W] pixels of 0..255 and normalises them itself."""

from collections.abc import Callable
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name every reader of torch code knows


class Arch(StrEnum):
    """Which network a checkpoint holds."""

    #: the network of TensorFlow's CIFAR-10 tutorial, layer for layer
    SEED = "seed"
    #: a small residual network for photos of about 100 pixels
    RESNET = "resnet"
    #: a small encoder-decoder that labels every pixel
    UNET = "unet"


class Normalise(nn.Module):
    """Subtract the mean and divide by the deviation of the training pixels, a value a channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.full((3, 1, 1), 255.0))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Take both [3], in grey levels of 0..255."""
        self.mean.copy_(mean.view(3, 1, 1))
        self.deviation.copy_(deviation.view(3, 1, 1).clamp_min(1.0))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.deviation


def seed_network(size: int, labels: int) -> nn.Sequential:
    """Three convolutions and two dense layers: 122,570 parameters for 32 pixels and 10 labels."""
    side = ((size - 2) // 2 - 2) // 2 - 2
    if side < 1:
        raise ValueError(f"the seed network needs pictures of at least 18 pixels, not {size}")
    return nn.Sequential(
        Normalise(),
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
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

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
    """Return the stages that resnet and unet share: strides 2, 4, 8, 8, 16, 16, 32."""
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
    """A stem, seven residual blocks over four scales, and the mean over all places: 0.95 million parameters."""
    if size < 32:
        raise ValueError(f"the resnet needs pictures of at least 32 pixels, not {size}")
    return nn.Sequential(
        Normalise(),
        *body(),
        Residual(128, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, labels),
    )


class UNet(nn.Module):
    """The resnet's body on the picture at half its size, additive skips back up, logits scaled up to the whole size.

    Half the size is a quarter of the work, and it is the scale that the body of a classifier of about 100 pixels knows.
    """

    #: pixels of the picture for one of the logits, each way
    STRIDE = 4
    #: stages of the body whose output a skip takes, with their channels
    SKIPS = ((0, 24), (1, 24), (3, 48), (5, 96), (6, 128))

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.body = nn.ModuleList(body())
        widths = [width for _, width in self.SKIPS]
        self.lateral = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in pairwise(widths)])
        self.decoder = nn.ModuleList([convolution(width, width) for width in widths[:-1]])
        self.head = nn.Conv2d(widths[0], labels, 1)

    def coarse(self, pixels: Tensor) -> Tensor:
        """Return the logits at a quarter of the picture's size, float [N, labels, H/4, W/4]."""
        top = self.normalise(F.avg_pool2d(pixels, 2))
        features = []
        for stage in self.body:
            top = stage(top)
            features.append(top)
        skips = [features[stage] for stage, _ in self.SKIPS[:-1]]
        for lateral, decode in zip(reversed(self.lateral), reversed(self.decoder), strict=True):
            # The 1x1 convolution comes before the scaling up: the same result at a quarter of the work.
            top = decode(skips.pop() + F.interpolate(lateral(top), scale_factor=2.0, mode="bilinear"))
        logits: Tensor = self.head(top)
        return logits

    def forward(self, pixels: Tensor) -> Tensor:
        return F.interpolate(self.coarse(pixels).float(), scale_factor=float(self.STRIDE), mode="bilinear")

    def take_body(self, resnet_state: dict[str, Tensor]) -> None:
        """Start from what a resnet learned, its normalisation included."""
        own = self.state_dict()
        for name, value in resnet_state.items():
            layer, _, rest = name.partition(".")
            taken = f"normalise.{rest}" if layer == "0" else f"body.{int(layer) - 1}.{rest}"
            if taken in own:
                own[taken] = value
        self.load_state_dict(own)


def unet(size: int, labels: int) -> UNet:
    """An encoder-decoder for sizes that 64 divides."""
    if size % 64:
        raise ValueError(f"the unet needs a size that 64 divides, not {size}")
    return UNet(labels)


BUILDERS: dict[Arch, Callable[[int, int], nn.Module]] = {Arch.SEED: seed_network, Arch.RESNET: resnet, Arch.UNET: unet}


def build(arch: Arch, size: int, labels: int) -> nn.Module:
    """Return a new network. Raises ValueError for a size it cannot take."""
    return BUILDERS[arch](size, labels)


def normalisation(network: nn.Module) -> Normalise:
    """Return the layer that a recipe fits to its training pixels."""
    return next(layer for layer in network.modules() if isinstance(layer, Normalise))


def parameters(network: nn.Module) -> int:
    """Return how many values training changes."""
    return sum(parameter.numel() for parameter in network.parameters())

"""The airbench network (Jordan, arXiv 2404.00498): learns images of 32 pixels, such as CIFAR-10, in few epochs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

#: side of the patches that the first layer whitens, in pixels
PATCH = 2
#: added to the variance of each direction of a patch
VARIANCE_FLOOR = 5e-4
#: divisor of the logits: a new network starts with scores near uniform
LOGIT_SCALE = 9.0


class Identity3x3(nn.Conv2d):
    """A 3x3 convolution whose first outputs start as copies of the inputs (dirac, section 3.3 of the paper)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        nn.init.dirac_(self.weight.data[:inputs])


def _normalization(width: int) -> nn.BatchNorm2d:
    """Return batch normalization with a bias but no scale to learn, whose statistics follow the last few batches."""
    layer = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


class Stage(nn.Module):
    """Two 3x3 convolutions; the first is followed by 2x2 max pooling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Identity3x3(inputs, outputs)
        self.first_norm = _normalization(outputs)
        self.second = Identity3x3(outputs, outputs)
        self.second_norm = _normalization(outputs)

    def forward(self, features: Tensor) -> Tensor:
        features = F.gelu(self.first_norm(F.max_pool2d(self.first(features), 2)))
        return F.gelu(self.second_norm(self.second(features)))


class Whitening(nn.Conv2d):
    """A 2x2 convolution, fixed before training; its outputs are uncorrelated over the patches of the images."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels, 2 * channels * PATCH**2, PATCH)
        self.weight.requires_grad_(False)

    def fit(self, pixels: Tensor) -> None:
        """Set the filters to the patches' principal directions and their negatives; normalized float32 [N, 3, H, W]."""
        patches = F.unfold(pixels, PATCH).transpose(1, 2).reshape(-1, self.in_channels * PATCH**2)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (directions / (variances + VARIANCE_FLOOR).sqrt()).T.flip(0)
        filters = filters.reshape(-1, self.in_channels, PATCH, PATCH)
        self.weight.data.copy_(torch.cat([filters, -filters]))


class Scaled(nn.Linear):
    """A linear layer whose outputs are divided by LOGIT_SCALE."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) / LOGIT_SCALE


class Mirrored(nn.Sequential):
    """Layers that in evaluation mode return the mean over an image and its mirror image, as in the paper."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self._apply_layers(pixels)
        return logits if self.training else (logits + self._apply_layers(pixels.flip(3))) / 2

    def _apply_layers(self, features: Tensor) -> Tensor:
        for layer in self:
            features = layer(features)
        return features


def airbench_layers(labels: int) -> list[nn.Module]:
    """Return the layers after the normalization: 1.97 million parameters, most of them in 3x3 convolutions."""
    return [
        Whitening(),
        nn.GELU(),
        Stage(24, 64),
        Stage(64, 256),
        Stage(256, 256),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        Scaled(256, labels, bias=False),
    ]

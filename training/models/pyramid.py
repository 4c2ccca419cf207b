"""A segmenter on the body of a pretrained classifier: a feature pyramid, with logits at every scale."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from training.models.backbones import build_transfer, matching_weights
from training.models.classifiers import Normalize, convolution
from training.models.segmenters import doubled

#: channels of the pyramid at each scale: at 1/2 of the size, at 1/4 and so on
WIDTHS = {2: 32, 4: 64, 8: 96, 16: 128, 32: 160}
#: probability that a channel of the coarsest scale is dropped in a training step
DROPOUT = 0.2


@dataclass(frozen=True)
class Scales:
    """The scales of a backbone's features: 1 / `finest` to 1 / `coarsest` of its size, both powers of two."""

    finest: int
    coarsest: int


class Pyramid(nn.Module):
    """A feature pyramid network (Lin et al., arXiv 1612.03144) on a backbone of timm.

    Each scale of the backbone has a lateral 1x1 convolution; from the coarsest to the finest, the scale above is scaled
    up and added. As in the context-unet, the mean over the image is added to the coarsest scale (ParseNet, arXiv
    1506.04579), the logits of all scales are summed (FCN, arXiv 1411.4038), and with `mirror` the result in evaluation
    mode is the mean over the image and its mirror image.
    """

    def __init__(
        self, normalize: Normalize, backbone: nn.Module, labels: int, scales: Scales, shrink: int, mirror: bool
    ) -> None:
        """Put a pyramid on the backbone; the layers that only coarser scales need are removed.

        The image is first downscaled to `1 / shrink` of its size. Raise ValueError for a backbone without these scales.
        """
        super().__init__()
        self.shrink, self.mirror = shrink, mirror
        #: pixels of the image per logit, in each direction
        self.stride = scales.finest * shrink
        self.normalize, self.backbone = normalize, backbone
        self._taken, channels, widths = _features_of(backbone, scales)
        self.lateral = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
                for inputs, width in zip(channels, widths, strict=True)
            ]
        )
        self.down = nn.ModuleList([nn.Conv2d(above, width, 1, bias=False) for width, above in pairwise(widths)])
        self.merge = nn.ModuleList([convolution(width, width) for width in widths])
        self.overall = nn.Linear(widths[-1], widths[-1])
        self.drop = nn.Dropout2d(DROPOUT)
        self.heads = nn.ModuleList([nn.Conv2d(width, labels, 1) for width in widths])
        self._frozen: list[nn.Module] = []

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits at the size of the image; in training mode at `1 / stride` of it, for the loss."""
        small = F.avg_pool2d(pixels, self.shrink) if self.shrink > 1 else pixels
        logits = self._coarse_logits(small)
        if self.training:
            return logits
        if self.mirror:
            logits = (logits + self._coarse_logits(small.flip(3)).flip(3)) / 2
        return F.interpolate(logits.float(), scale_factor=float(self.stride), mode="bilinear")

    def _coarse_logits(self, pixels: Tensor) -> Tensor:
        features = self.backbone.forward_intermediates(  # type: ignore[operator]  # a method of timm's networks
            self.normalize(pixels), indices=self._taken, intermediates_only=True
        )
        top = self.merge[-1](F.relu(self.lateral[-1](features[-1])))
        top = self.drop(top + self.overall(top.mean((2, 3)))[:, :, None, None])
        logits: Tensor = self.heads[-1](top)
        for scale in reversed(range(len(self.down))):
            # The 1x1 convolution comes before the upscaling: the same result at a quarter of the work.
            above = doubled(self.down[scale](top))
            top = self.merge[scale](F.relu(self.lateral[scale](features[scale]) + above))
            logits = self.heads[scale](top) + doubled(logits)
        return logits

    def freeze(self, stages: int) -> None:
        """Keep the stem and the first `stages` of the backbone as they are, their batch statistics included.

        They see edges and colors, which few images teach no better than ImageNet, at the resolutions that cost most.
        """
        if not stages:
            return
        self._frozen = [self.backbone.conv_stem, self.backbone.bn1, *self.backbone.blocks[:stages]]  # type: ignore[list-item,index]
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but the frozen ones, which stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def build_pyramid(
    size: int,
    labels: int,
    backbone: str,
    *,
    shrink: int = 1,
    finest: int = 4,
    coarsest: int = 32,
    mirror: bool = True,
    weights: dict[str, Tensor] | None = None,
) -> Pyramid:
    """Return a pyramid on a backbone, which gets `weights` if there are any, in a layout of `matching_weights`.

    Raise ValueError for a backbone that is no EfficientNet of timm, for other weights, and for a size that it cannot
    take.
    """
    if finest > coarsest:
        raise ValueError(f"the finest scale, {finest}, is coarser than the coarsest, {coarsest}")
    if size % (coarsest * shrink):
        raise ValueError(f"the pyramid needs a size that {coarsest * shrink} divides, not {size}")
    classifier = build_transfer(backbone, size // shrink, 2, 0)
    if weights is not None:
        classifier.load_state_dict(classifier.state_dict() | matching_weights(classifier, weights, backbone))
    return Pyramid(
        classifier.normalize, classifier.backbone, labels, Scales(finest, coarsest), shrink=shrink, mirror=mirror
    )


def _features_of(backbone: nn.Module, scales: Scales) -> tuple[list[int], list[int], list[int]]:
    """Return position and channels of the backbone's features, and the pyramid's channels, at each of the scales."""
    if not all(hasattr(backbone, name) for name in ("conv_stem", "bn1", "blocks", "feature_info")):
        raise ValueError("only EfficientNets of timm serve as body of a segmenter, such as efficientnet_lite0")
    found = [
        (position, stage["num_chs"], WIDTHS[stage["reduction"]])
        for position, stage in enumerate(backbone.feature_info)  # type: ignore[arg-type]
        if scales.finest <= stage["reduction"] <= scales.coarsest
    ]
    taken, channels, widths = (list(column) for column in zip(*found, strict=True))
    backbone.prune_intermediate_layers(taken)  # type: ignore[operator]  # a method of timm's networks
    return taken, channels, widths


def parameter_groups(network: Pyramid, lr: float, body_lr: float) -> list[dict[str, object]]:
    """Return optimizer groups: the pyramid at `lr`, the backbone at `body_lr` times it, and nothing that is frozen."""
    body = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
    known = {id(parameter) for parameter in network.backbone.parameters()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    return [{"params": rest, "lr": lr}, {"params": body, "lr": lr * body_lr}]

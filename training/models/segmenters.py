"""Networks that label every pixel: float32 [N, 3, H, W] of 0..255 in, logits [N, labels, H, W] out."""

from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from training.models.classifiers import Normalize, Residual, body, convolution


class SegmentArch(StrEnum):
    """The names of Tagmill's segmenters, as a checkpoint stores them."""

    #: the resnet's body with additive skips, small and fast
    UNET = "unet"
    #: the unet with layers that see the whole image, and logits at every scale
    CONTEXT_UNET = "context-unet"
    #: the tutorial's stages of 64, 128, 256, 512 and 512 channels, with skips and a decoder
    SIMPLE_UNET = "simple-unet"
    #: a feature pyramid on the body of a pretrained classifier
    PYRAMID = "pyramid"


class UNet(nn.Module):
    """A U-Net of the resnet's body with additive skips; the logits are upscaled to the size of the image.

    The image is first downscaled to `1 / shrink` of its size: half the size is a quarter of the work, and the scale
    that the body of a classifier of about 100 pixels was trained on.
    """

    #: stages of the body that have a skip, with their channels
    SKIPS = ((0, 24), (1, 24), (3, 48), (5, 96), (6, 128))

    def __init__(self, labels: int, shrink: int) -> None:
        super().__init__()
        self.shrink = shrink
        #: pixels of the image per logit, in each direction
        self.stride = 2 * shrink
        self.normalize = Normalize()
        self.body = nn.ModuleList(body())
        widths = [width for _, width in self.SKIPS]
        self.lateral = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in pairwise(widths)])
        self.decoder = nn.ModuleList([convolution(width, width) for width in widths[:-1]])
        self.head = nn.Conv2d(widths[0], labels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits at the size of the image; in training mode at `1 / stride` of it, for the loss."""
        logits = self._coarse_logits(pixels)
        if self.training:
            return logits
        return F.interpolate(logits.float(), scale_factor=float(self.stride), mode="bilinear")

    def _coarse_logits(self, pixels: Tensor) -> Tensor:
        top = self.normalize(F.avg_pool2d(pixels, self.shrink) if self.shrink > 1 else pixels)
        features = []
        for stage in self.body:
            top = stage(top)
            features.append(top)
        return self._logits([features[stage] for stage, _ in self.SKIPS])

    def _logits(self, skips: list[Tensor]) -> Tensor:
        """Return the logits at the scale of the first skip, the finest."""
        top = skips.pop()
        for lateral, decode in zip(reversed(self.lateral), reversed(self.decoder), strict=True):
            # The 1x1 convolution comes before the upscaling: the same result at a quarter of the work.
            top = decode(skips.pop() + doubled(lateral(top)))
        logits: Tensor = self.head(top)
        return logits

    def take_body(self, resnet_state: dict[str, Tensor]) -> None:
        """Copy the body and the normalization of a trained resnet."""
        state = self.state_dict()
        for name, value in resnet_state.items():
            layer, _, rest = name.partition(".")
            copied = f"normalize.{rest}" if layer == "0" else f"body.{int(layer) - 1}.{rest}"
            if copied in state:
                state[copied] = value
        self.load_state_dict(state)


class ContextUNet(UNet):
    """A UNet for labels that look alike up close and differ in their context, such as a coat and a jacket.

    The coarsest scale has two more blocks, and the mean over the image is added to each position (ParseNet, arXiv
    1506.04579). Every scale has logits, which are summed (FCN, arXiv 1411.4038), because the finest scale has few
    channels. In evaluation mode it returns the mean over the image and its mirror image.
    """

    #: channels of the coarsest scale
    WIDTH = 192
    #: probability that one of these channels is dropped in a training step
    DROPOUT = 0.3

    def __init__(self, labels: int, shrink: int) -> None:
        super().__init__(labels, shrink)
        widths = [width for _, width in self.SKIPS[:-1]]
        self.context = nn.Sequential(
            Residual(self.SKIPS[-1][1], self.WIDTH), Residual(self.WIDTH, self.WIDTH), nn.Dropout2d(self.DROPOUT)
        )
        self.overall = nn.Linear(self.WIDTH, self.WIDTH)
        self.lateral[-1] = nn.Conv2d(self.WIDTH, widths[-1], 1)
        self.coarse = nn.ModuleList([nn.Conv2d(width, labels, 1) for width in (*widths[1:], self.WIDTH)])

    def _coarse_logits(self, pixels: Tensor) -> Tensor:
        logits = super()._coarse_logits(pixels)
        return logits if self.training else (logits + super()._coarse_logits(pixels.flip(3)).flip(3)) / 2

    def _logits(self, skips: list[Tensor]) -> Tensor:
        top = self.context(skips.pop())
        top = top + self.overall(top.mean((2, 3)))[:, :, None, None]
        logits: Tensor = self.coarse[-1](top)
        stages = zip(
            reversed(self.lateral), reversed(self.decoder), [*reversed(self.coarse[:-1]), self.head], strict=True
        )
        for lateral, decode, head in stages:
            top = decode(skips.pop() + doubled(lateral(top)))
            logits = head(top) + doubled(logits)
        return logits


def doubled(features: Tensor) -> Tensor:
    """Return features [N, C, H, W] at twice the size."""
    return F.interpolate(features, scale_factor=2.0, mode="bilinear")


class SimpleUNet(nn.Module):
    """The stages of the tutorial's segmentation network, as a U-Net (arXiv 1505.04597).

    The tutorial stacks convolutions of 64, 128, 256, 512 and 512 channels and ends in dense layers that label a whole
    image. Here the same stages are followed by a decoder with skips, and n labels per pixel.
    """

    #: convolutions of each stage, as in VGG16 (arXiv 1409.1556), which the tutorial follows
    STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    stride = 1

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.normalize = Normalize()
        stages, inputs = [], 3
        for width, count in self.STAGES:
            stages.append(nn.Sequential(*(convolution(inputs if n == 0 else width, width) for n in range(count))))
            inputs = width
        self.down = nn.ModuleList(stages)
        widths = [width for width, _ in self.STAGES]
        self.up = nn.ModuleList([convolution(below + beside, beside) for beside, below in pairwise(widths)])
        self.head = nn.Conv2d(widths[0], labels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        top = self.normalize(pixels)
        skips = []
        for number, stage in enumerate(self.down):
            top = stage(F.max_pool2d(top, 2) if number else top)
            skips.append(top)
        skips.pop()
        for merge in reversed(self.up):
            top = merge(torch.cat([skips.pop(), doubled(top)], dim=1))
        logits: Tensor = self.head(top)
        return logits


class TorchvisionSegmenter(nn.Module):
    """A segmenter of torchvision, by its name there, after Tagmill's normalization."""

    stride = 1

    def __init__(self, arch: str, labels: int) -> None:
        super().__init__()
        from torchvision.models import get_model

        self.normalize = Normalize()
        self.network = get_model(arch, weights=None, weights_backbone=None, num_classes=labels)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalize(pixels))["out"]
        return logits


Segmenter = UNet | SimpleUNet | TorchvisionSegmenter

#: the segmenters that can start from a resnet's body and work on a downscaled image
UNETS: dict[str, type[UNet]] = {SegmentArch.UNET: UNet, SegmentArch.CONTEXT_UNET: ContextUNet}
#: the segmenters of torchvision that were tested to train and to export
TORCHVISION = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50")


def build_segmenter(arch: str, size: int, labels: int, shrink: int = 2) -> Segmenter:
    """Return a new network other than the pyramid. Raise ValueError for a size that it cannot take."""
    if arch in UNETS:
        if size % (32 * shrink):
            raise ValueError(f"the {arch} needs a size that {32 * shrink} divides, not {size}")
        return UNETS[arch](labels, shrink)
    if arch == SegmentArch.SIMPLE_UNET:
        if size % 16:
            raise ValueError(f"the simple-unet needs a size that 16 divides, not {size}")
        return SimpleUNet(labels)
    return TorchvisionSegmenter(arch, labels)

"""The class activation map of a classifier: where in the image the evidence for its best label is.

Zhou et al. 2016, Learning Deep Features for Discriminative Localization (arXiv 1512.04150). If the logits are a linear
layer of features that are averaged over the image, they are also the average of that layer's answers at each place.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tagmill.errors import InputError
from training.evaluation.predict import to_pixels

#: levels of a map: 0 is no evidence for the label, 255 the strongest of the image
LEVELS = 255
#: how far the mean of a map may be from what the head reads, relative to its largest value
_SAME = 1e-4
_REFUSED = (
    "--activation-map needs a network that averages its last feature map and gives that to one linear layer, such as "
    "a residual network, a MobileNet or an EfficientNet without --head"
)


@dataclass(frozen=True)
class FeatureMap:
    """Where a network has the features that it averages, and the linear layer that reads the averages."""

    #: gives float32 [N, F, h, w], once for each view of an image
    source: nn.Module
    #: reads float32 [N, F]
    head: nn.Linear
    #: of an image: 1, or 2 with its mirror image, which comes second
    views: int


class _Watch:
    """Keeps what modules give and what linear layers read, while it is open."""

    def __init__(self, network: nn.Module) -> None:
        self.given: list[tuple[nn.Module, Tensor]] = []
        self.read: list[tuple[nn.Linear, Tensor, Tensor]] = []
        self._hooks = [layer.register_forward_hook(self._note) for layer in network.modules() if layer is not network]

    def _note(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            self.read.append((layer, inputs[0], output))
        elif isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            self.given.append((layer, output))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


@torch.inference_mode()
def find_feature_map(network: nn.Module, images: NDArray[np.uint8]) -> FeatureMap:
    """Return where the network has the features that it averages, found by what it computes for uint8 [N, H, W, 3].

    Raise InputError for a network whose logits are not a linear layer of averaged features.
    """
    network.eval()
    watch = _Watch(network)
    try:
        logits: Tensor = network(to_pixels(images))
    finally:
        watch.close()
    if not watch.read:
        raise InputError(_REFUSED)
    head = watch.read[-1][0]
    calls = [(features, answer) for layer, features, answer in watch.read if layer is head]
    views = 2 if getattr(network, "mirror", False) else 1
    answers = torch.stack([answer for _, answer in calls]).mean(0)
    if len(calls) != views or answers.shape != logits.shape or not _same(answers, logits):
        raise InputError(_REFUSED)
    for layer in dict.fromkeys(layer for layer, _ in reversed(watch.given)):
        maps = [output for at, output in watch.given if at is layer]
        if len(maps) == views and all(
            found.shape[1] == features.shape[-1] and _same(found.mean((2, 3)), features)
            for found, (features, _) in zip(maps, calls, strict=True)
        ):
            return FeatureMap(layer, head, views)
    raise InputError(_REFUSED)


class MapTap:
    """Watches the features that a network averages."""

    def __init__(self, place: FeatureMap) -> None:
        self._place = place
        self._given: list[Tensor] = []
        self._hook = place.source.register_forward_hook(lambda layer, inputs, output: self._given.append(output))

    def take(self) -> Tensor:
        """Return the features of the last call, [N, F, h, w]; of two views their mean, in the place of the first."""
        features = self._given[0]
        if self._place.views == 2:
            features = (features + self._given[1].flip(3)) / 2
        self._given.clear()
        return features

    def close(self) -> None:
        """Stop watching."""
        self._hook.remove()


class Localized(nn.Module):
    """A network that returns its logits, what else it gives, and the activation map of each image's best label."""

    def __init__(self, network: nn.Module, place: FeatureMap) -> None:
        super().__init__()
        self.network = network
        self._tap = MapTap(place)
        self.head = place.head

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.network(pixels)
        logits, *further = found if isinstance(found, tuple) else (found,)
        features = self._tap.take()
        weights = self.head.weight[logits.argmax(1)]
        evidence = torch.bmm(weights.unsqueeze(1), features.flatten(2)).reshape(-1, *features.shape[2:]).relu()
        strongest = evidence.amax((1, 2), keepdim=True).clamp_min(1e-12)
        return (logits, *further, (evidence * (LEVELS / strongest)).round().to(torch.uint8))


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= _SAME * other.abs().max().clamp_min(1e-6))

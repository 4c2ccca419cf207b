"""Classifiers of a pretrained backbone and a new head."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from training.models.classifiers import BUILDERS, Normalize
from training.models.segmenters import SegmentArch
from training.models.timm_backbones import build_timm, is_timm

#: normalization of torchvision's weights (ImageNet), in levels of 0..255
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_DEVIATION = (58.395, 57.12, 57.375)

#: attributes in which torchvision's classifiers keep the layers after their features
HEADS = ("fc", "classifier", "heads", "head")
#: torchvision's networks that by default have several outputs in training and a slow initialization, with a warning
INCEPTIONS = ("googlenet", "inception_v3")


class Transfer(nn.Module):
    """A backbone that returns features [N, F], and a head that returns logits.

    With `mirror` the logits are in evaluation mode the mean over the image and its mirror image, at twice the work.
    """

    def __init__(
        self, normalize: Normalize, backbone: nn.Module, features: int, labels: int, head: int, mirror: bool = False
    ) -> None:
        super().__init__()
        self.mirror = mirror
        self._frozen: list[nn.Module] = []
        self.normalize = normalize
        self.backbone = backbone
        self.head: nn.Module = nn.Linear(features, labels)
        if head:
            self.head = nn.Sequential(nn.Linear(features, head), nn.ReLU(), nn.Linear(head, labels))

    def features(self, pixels: Tensor) -> Tensor:
        """Return the input of the head, float32 [N, F]."""
        features: Tensor = self.backbone(self.normalize(pixels))
        return features.flatten(1)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(pixels))
        if self.mirror and not self.training:
            logits = (logits + self.head(self.features(pixels.flip(3)))) / 2
        return logits

    def freeze(self, stages: int) -> None:
        """Keep the first `stages` of the backbone as they are, their batch statistics included.

        They see edges and colors, which few images teach no better than ImageNet, at the resolutions that cost most.
        """
        self._frozen = list(self._layers())[:stages]
        for layer in self._frozen:
            layer.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but the frozen ones, which stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def stages(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each layer of the backbone that learns any, in order."""
        learned = ([given for given in layer.parameters() if given.requires_grad] for layer in self._layers())
        return [found for found in learned if found]

    def _layers(self) -> Sequence[nn.Module]:
        layers = list(self.backbone.children())
        while len(layers) == 1:
            layers = list(layers[0].children())
        # timm's EfficientNets have all stages in one layer.
        blocks = getattr(self.backbone, "blocks", None)
        return [inner for layer in layers for inner in (layer if layer is blocks else [layer])]


def build_transfer(arch: str, size: int, labels: int, head: int, mirror: bool = False) -> Transfer:
    """Return a backbone of Tagmill, torchvision or timm with random weights, and a head.

    `head` is the width of a dense layer between features and logits, 0 for none. VGG's features are flattened, not
    averaged, as in the tutorial: with `head` 256 it is the tutorial's network. Raise ValueError for an unknown name or
    a size that is too small.
    """
    normalize, backbone = _backbone(arch, size)
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(torch.zeros(1, 3, size, size)).flatten(1).shape[1]
    except (RuntimeError, AssertionError) as error:
        only = getattr(backbone, "image_size", None)  # vision transformers assert it
        hint = f", only of {only}" if only else ""
        raise ValueError(f"{arch} cannot take images of {size} pixels{hint}") from error
    return Transfer(normalize, backbone.train(), features, labels, head, mirror)


def _backbone(arch: str, size: int) -> tuple[Normalize, nn.Module]:
    if arch in BUILDERS:
        return _tagmill(arch, size)
    return _torchvision(arch) if is_torchvision(arch) else build_timm(arch)


def _tagmill(arch: str, size: int) -> tuple[Normalize, nn.Module]:
    layers = list(BUILDERS[arch](size, 2).children())
    assert isinstance(layers[0], Normalize)
    return layers[0], nn.Sequential(*layers[1:-1])


def require_classifier(arch: str) -> None:
    """Raise ValueError for a name that is no classifier of Tagmill, torchvision or timm."""
    if arch in BUILDERS or is_torchvision(arch) or is_timm(arch):
        return
    from torchvision import models

    known = (
        "efficientnet_lite0, torchvision's resnet18, vgg16, mobilenet_v3_small, …, and timm's with the extra pretrained"
    )
    if arch in (*models.list_models(), *SegmentArch, "svc"):
        raise ValueError(f"{arch} does not serve as backbone; take a plain classifier of images: {known}")
    raise ValueError(f"no network is called {arch}; known are {known}")


def is_torchvision(arch: str) -> bool:
    """Return whether torchvision has a classifier of this name."""
    from torchvision import models

    return arch in models.list_models(module=models)


def _torchvision(arch: str) -> tuple[Normalize, nn.Module]:
    from torchvision.models import get_model

    options = {"aux_logits": False, "init_weights": False} if arch in INCEPTIONS else {}
    network = get_model(arch, weights=None, **options)
    normalize = Normalize()
    normalize.fit(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_DEVIATION))
    if arch.startswith(("vgg", "alexnet")):
        return normalize, network.features
    for name in HEADS:
        if hasattr(network, name):
            setattr(network, name, nn.Identity())
            return normalize, network
    raise ValueError(f"{arch}: torchvision keeps its head where Tagmill does not know it")


def matching_weights(network: Transfer, state: dict[str, Tensor], arch: str) -> dict[str, Tensor]:
    """Return the weights of `state` (torchvision's or a checkpoint's) for the normalization and the backbone.

    Raise ValueError if a layer of the backbone is missing or has another shape.
    """
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}
    renamed = _renamed(state, arch)
    weights = {f"normalize.{name}": value for name, value in network.normalize.state_dict().items()}
    for name, value in wanted.items():
        given = renamed.get(name, weights.get(name))
        if given is None or given.shape != value.shape:
            raise ValueError(f"the weights hold no {name} of shape {tuple(value.shape)}")
        weights[name] = given
    return weights


def _renamed(state: dict[str, Tensor], arch: str) -> dict[str, Tensor]:
    """Return `state` under the names of `Transfer`."""
    if any(name.startswith("backbone.") for name in state):  # a run of `train transfer`
        return state
    if arch in BUILDERS:  # a run of `train cnn`: layer 0 is the normalization, the others follow in order
        split = ((name.split(".", 1), value) for name, value in state.items())
        return {
            f"normalize.{rest}" if layer == "0" else f"backbone.{int(layer) - 1}.{rest}": value
            for (layer, rest), value in split
        }
    prefix = "features." if arch.startswith(("vgg", "alexnet")) else ""
    return {f"backbone.{name.removeprefix(prefix)}": value for name, value in state.items()}


def parameter_groups(network: Transfer, lr: float, decay: float) -> list[dict[str, object]]:
    """Return optimizer groups: the head at `lr`, each stage below it at `decay` times the rate of the stage above.

    Discriminative fine-tuning (Howard and Ruder, arXiv 1801.06146, section 3.2).
    """
    stages = network.stages()
    known = {id(parameter) for stage in stages for parameter in stage}
    learned = (parameter for parameter in network.backbone.parameters() if parameter.requires_grad)
    if rest := [parameter for parameter in learned if id(parameter) not in known]:
        stages.insert(0, rest)
    groups: list[dict[str, object]] = [{"params": list(network.head.parameters()), "lr": lr}]
    return groups + [
        {"params": stage, "lr": lr * decay**depth} for depth, stage in enumerate(reversed(stages), start=1)
    ]

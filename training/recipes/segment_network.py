"""Build the network of a segmenter with the weights that it starts from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tagmill.errors import InputError
from training.checkpoint import Checkpoint, load
from training.data.arrays import Arrays, spread
from training.evaluation.predict import to_pixels
from training.models.build import build
from training.models.classifiers import Arch, fit_to_pixels
from training.models.pyramid import Pyramid, build_pyramid, parameter_groups
from training.models.segmenters import UNETS, SegmentArch, Segmenter, UNet
from training.recipes.pretrained import IMAGENET, Pretrained, find_weights

#: body of the pyramid where neither --backbone nor a run names one
DEFAULT_BACKBONE = "efficientnet_lite0"
#: number of images that the normalization is measured on
MEASURED_ON = 500

AnySegmenter = Segmenter | Pyramid


@dataclass(frozen=True)
class PyramidShape:
    """The scales of a pyramid: 1 / `finest` to 1 / `coarsest` of the size that it works at."""

    finest: int = 4
    coarsest: int = 32
    #: whether the masks are the mean over the image and its mirror image
    mirror: bool = True


@dataclass(frozen=True)
class Origin:
    """What a network starts from."""

    #: a run of the same network, or of the resnet whose body a unet copies
    run: Checkpoint | None = None
    #: the body of a pyramid
    body: Pretrained | None = None

    @property
    def trained(self) -> bool:
        """Whether the body of a pyramid has learned weights."""
        return self.run is not None or (self.body is not None and self.body.state is not None)


def find_origin(arch: str, start: Path | None, backbone: str | None, weights: str | None) -> Origin:
    """Read what the options of a training name. Raise InputError if they contradict each other or cannot be read."""
    run = load(start) if start else None
    if arch != SegmentArch.PYRAMID:
        if backbone or weights:
            raise InputError(f"--backbone and --weights are for --arch {SegmentArch.PYRAMID}, not for a {arch}")
        return Origin(run)
    if run is not None and weights is not None:
        raise InputError("--start and --weights both say what to start from; leave one of them out")
    if run is not None and run.arch == SegmentArch.PYRAMID:
        held = str(run.options["backbone"])
        if backbone not in {None, held}:
            raise InputError(f"--start holds a pyramid on {held}, not on {backbone}; leave --backbone out")
        return Origin(run, Pretrained(held, None))
    if start is not None:  # of a classifier
        return Origin(None, find_weights(str(start), backbone))
    weights = weights or IMAGENET
    by_name = not Path(weights).exists()
    return Origin(None, find_weights(weights, backbone or (DEFAULT_BACKBONE if by_name else None)))


def options_of(arch: str, shrink: int, pyramid: PyramidShape, origin: Origin) -> dict[str, Any]:
    """Return the arguments that the network is built with, as the checkpoint stores them."""
    if origin.body is not None:
        return {"backbone": origin.body.arch, "shrink": shrink} | asdict(pyramid)
    return {"shrink": shrink} if arch in UNETS else {}


def new_network(
    arch: str, size: int, options: dict[str, Any], labels: int, train: Arrays, origin: Origin
) -> AnySegmenter:
    """Return a network with the weights of its origin. Raise InputError for a size that it cannot take."""
    try:
        if origin.body is not None:
            network: AnySegmenter = build_pyramid(size, labels, weights=origin.body.state, **options)
        else:
            network = build(arch, size, labels, **options)  # type: ignore[assignment]  # it is a segmenter's name
    except ValueError as error:
        choices = "--size, --shrink or --backbone" if origin.body else "--size"
        raise InputError(f"{error}; choose another {choices}") from error
    if origin.run is not None:
        _copy(origin.run, arch, network)
    elif origin.body is None:
        fit_to_pixels(network, to_pixels(spread(train.pixels, MEASURED_ON)))
    return network


def _copy(run: Checkpoint, arch: str, network: AnySegmenter) -> None:
    """Copy the weights of a run of the same network, or the body of a resnet into a unet. Raise InputError else."""
    if run.arch == arch:
        state = network.state_dict()
        matching = {
            name: value for name, value in run.state.items() if name in state and state[name].shape == value.shape
        }
        network.load_state_dict(state | matching)
    elif isinstance(network, UNet) and run.arch == Arch.RESNET and run.recipe == "cnn":
        network.take_body(run.state)
    else:
        raise InputError(
            f"--start holds a {run.arch}; a {arch} starts from a run of the same network"
            + (", or from one of `train cnn --arch resnet`" if arch in UNETS else "")
        )


def pyramid_optimizer(network: Pyramid, lr: float, body_lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return Adam with decoupled weight decay; the body's rate is `body_lr` times that of the pyramid."""
    groups = parameter_groups(network, lr, body_lr)
    return torch.optim.Adam(groups, weight_decay=weight_decay, decoupled_weight_decay=True, fused=True)

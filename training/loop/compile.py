"""A network compiled for a GPU, where that pays and where this machine can."""

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

#: steps from which compiling pays: it takes half a minute, and saves part of a millisecond a step
COMPILED_FROM = 10_000


class Compiled:
    """Answers batches of one size by compiled code and all others by the network itself; both have the same weights.

    The last batch of an epoch is smaller, and images that are measured come in other numbers: each size would be
    compiled once more.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        self._network, self._batch_size = network, batch_size
        self._compiled = torch.compile(network, dynamic=False)

    def __call__(self, batch: Tensor) -> Tensor:
        answer: Tensor = (self._compiled if len(batch) == self._batch_size else self._network)(batch)
        return answer


def pays(device: torch.device, steps: int) -> bool:
    """Return whether a training of so many steps is to be compiled."""
    return device.type == "cuda" and steps >= COMPILED_FROM and can_compile()


def can_compile() -> bool:
    """Return whether Triton can build its launcher: that takes a C compiler and the header files of Python."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return compiler is not None and headers.exists() and find_spec("triton") is not None

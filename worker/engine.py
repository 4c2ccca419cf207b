"""What Session asks of an inference library: the one surface that ONNX Runtime and OpenVINO are behind."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import BundleError, ConfigurationError
from worker.calls import Calls
from worker.self_check import Arithmetic


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    #: of its elements, as NumPy calls it: uint8, float32
    dtype: str
    #: None where a dimension is known only at run time
    shape: tuple[int | None, ...]


class Engine(Protocol):
    """A graph that is loaded and may be called from any thread."""

    #: what really runs it: CPUExecutionProvider, CUDAExecutionProvider, TensorrtExecutionProvider or OpenVINO-CPU
    provider: str
    #: of the library, e.g. onnxruntime 1.31.1
    version: str
    #: what it computes with
    arithmetic: Arithmetic
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    #: threads of one call
    threads: int
    #: calls that run at the same time; more of them wait for each other
    parallel: int
    #: images that each call is filled up to; 0: a call is as large as what it is given
    fixed_batch: int

    def run(self, names: list[str], images: NDArray[np.uint8], calls: Calls) -> list[NDArray[Any]]:
        """Return the outputs `names` for uint8 [N, height, width, 3].

        The call is one of `calls` while it runs, not while it waits for its turn. Raises what the library raises.
        """
        ...


#: kind -> may a number of a card follow
_KINDS = {"auto": False, "cpu": False, "openvino": False, "cuda": True, "tensorrt": True}
_DEVICE = re.compile(r"([a-z]+)(?::([0-9]+))?")


@dataclass(frozen=True)
class Device:
    """A device as it is written on a command line: auto, cpu, openvino, cuda:N or tensorrt:N."""

    kind: str
    #: number of the card
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Raise ConfigurationError where it is no device: what `tagmill.settings` accepts is accepted here."""
        found = _DEVICE.fullmatch(text)
        if not found or found[1] not in _KINDS or (found[2] and not _KINDS[found[1]]):
            raise ConfigurationError(f"device {text}: must be auto, cpu, cuda:N, tensorrt:N or openvino")
        return cls(found[1], int(found[2] or 0))

    @property
    def on_card(self) -> bool:
        """Whether it is a graphics card."""
        return _KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.on_card else self.kind


def library_error(path: Path, how: str, error: Exception) -> BundleError:
    """Return what a person is told of a file that a library refuses; of what the library says, the last line."""
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return BundleError(f"{path}: {how}: {reason}; choose another --device, or export the bundle again")

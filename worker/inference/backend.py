"""What Session asks of an inference library: the one surface that ONNX Runtime and OpenVINO are behind."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import BundleError
from worker.inference.call_tracker import CallTracker


class Arithmetic(IntEnum):
    """How many binary digits of each factor a device keeps where it multiplies float32."""

    #: float32 itself: ONNX Runtime on any CPU, OpenVINO where the CPU has no AMX
    FLOAT32 = 23
    #: CUDA multiplies float32 in TF32
    TF32 = 10
    #: OpenVINO's choice where the CPU has AMX
    BFLOAT16 = 7


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    #: of its elements, as NumPy calls it: uint8, float32
    dtype: str
    #: None where a dimension is known only at run time
    shape: tuple[int | None, ...]


class Backend(Protocol):
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

    def run(self, names: list[str], images: NDArray[np.uint8], calls: CallTracker) -> list[NDArray[Any]]:
        """Return the outputs `names` for uint8 [N, height, width, 3].

        The call is one of `calls` while it runs, not while it waits for its turn. Raises what the library raises.
        """
        ...


def library_error(path: Path, how: str, error: Exception) -> BundleError:
    """Return what a person is told of a file that a library refuses; of what the library says, the last line."""
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return BundleError(f"{path}: {how}: {reason}; choose another --device, or export the bundle again")

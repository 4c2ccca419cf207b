"""The interface that ONNX Runtime and OpenVINO implement for `worker.inference.session.Session`."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import BundleError
from worker.inference.call_tracker import CallTracker


class Arithmetic(IntEnum):
    """How many binary digits of each factor a device keeps when it multiplies float32."""

    #: float32 itself: ONNX Runtime on any CPU, OpenVINO on a CPU without AMX
    FLOAT32 = 23
    #: CUDA multiplies float32 in TF32
    TF32 = 10
    #: OpenVINO's choice on a CPU with AMX
    BFLOAT16 = 7


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    #: NumPy's name of the element type: uint8, float32
    dtype: str
    #: None for a dimension that is known only at run time
    shape: tuple[int | None, ...]


class Backend(Protocol):
    """A loaded graph, which any thread may call."""

    #: the active provider: CPUExecutionProvider, CUDAExecutionProvider, TensorrtExecutionProvider or OpenVINO-CPU
    provider: str
    #: name and version of the library, e.g. onnxruntime 1.31.1
    version: str
    #: precision that it multiplies with
    arithmetic: Arithmetic
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    #: threads of one call
    threads: int
    #: calls that run at the same time; further calls wait
    parallel: int
    #: images that each call is padded to; 0: calls are of any size
    fixed_batch: int

    def run(self, names: list[str], images: NDArray[np.uint8], calls: CallTracker) -> list[NDArray[Any]]:
        """Return the outputs `names` for uint8 [N, height, width, 3].

        `calls` tracks the call while it runs, not while it waits. Raise what the library raises.
        """
        ...


def library_error(path: Path, how: str, error: Exception) -> BundleError:
    """Build the BundleError for a bundle that the library cannot load, quoting the last line of its message."""
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return BundleError(f"{path}: {how}: {reason}; choose another --device, or export the bundle again")

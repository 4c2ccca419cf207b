"""ProcessHooks memory that a GPU fetches from by itself, with no copy of the driver's in between."""

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: of the CUDA that ONNX Runtime is built for; `worker.devices.cuda_libraries` has loaded it
_CUDART = "libcudart.so.13"


@dataclass(frozen=True)
class PinnedBuffer:
    """Where the images of a call are put on their way to a device."""

    #: uint8 [batch, height, width, 3]
    pixels: NDArray[np.uint8]
    #: whether the GPU fetches them itself
    pinned: bool = False


@cache
def pinned_buffer(index: int, shape: tuple[int, ...]) -> PinnedBuffer:
    """Return the room that all sessions of GPU `index` share, for its thread alone; not pinned where CUDA refuses.

    It is never given back: CUDA would go on reading from where it lay.
    """
    pixels = np.zeros(shape, np.uint8)
    return PinnedBuffer(pixels, pin(pixels))


def pin(pixels: NDArray[np.uint8]) -> bool:
    """Have the pages of an array stay where they are; return whether they do."""
    try:
        cuda = ctypes.CDLL(_CUDART)
    except OSError:
        return False
    if cuda.cudaHostRegister(ctypes.c_void_p(pixels.ctypes.data), ctypes.c_size_t(pixels.nbytes), 0) == 0:
        return True
    cuda.cudaGetLastError()  # else ONNX Runtime's next look at it would find this failure
    return False

"""Page-locked host memory, which a GPU reads directly, without a copy by the driver."""

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: CUDA runtime of the version that ONNX Runtime is built for; `worker.devices.cuda_libraries` has loaded it
_CUDART = "libcudart.so.13"


@dataclass(frozen=True)
class PinnedBuffer:
    """Host memory from which the images of a call are copied to a device."""

    #: uint8 [batch, height, width, 3]
    pixels: NDArray[np.uint8]
    #: whether it is page-locked
    pinned: bool = False


@cache
def pinned_buffer(index: int, shape: tuple[int, ...]) -> PinnedBuffer:
    """Return the buffer that all sessions of GPU `index` share, for its thread only; not pinned if CUDA refuses.

    It is never freed: CUDA may still read from its address.
    """
    pixels = np.zeros(shape, np.uint8)
    return PinnedBuffer(pixels, pin(pixels))


def pin(pixels: NDArray[np.uint8]) -> bool:
    """Page-lock an array (cudaHostRegister); return False if CUDA refuses."""
    try:
        cuda = ctypes.CDLL(_CUDART)
    except OSError:
        return False
    if cuda.cudaHostRegister(ctypes.c_void_p(pixels.ctypes.data), ctypes.c_size_t(pixels.nbytes), 0) == 0:
        return True
    cuda.cudaGetLastError()  # clear the error: else ONNX Runtime would report it after its next call
    return False

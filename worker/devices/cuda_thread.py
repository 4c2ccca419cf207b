"""The one thread of a process that calls a GPU.

In ONNX Runtime the handles of cuBLAS and cuDNN and the recorded CUDA graphs belong to the thread that created them.
While a graph is recorded, a CUDA call of any other thread breaks it.
"""

from functools import cache

from worker.timeout_pool import TimeoutPool


@cache
def gpu_thread(index: int) -> TimeoutPool:
    """Return the thread that creates and calls the sessions of GPU `index`. Call this from one thread at a time."""
    return TimeoutPool(1, "gpu")

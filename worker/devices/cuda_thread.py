"""The one thread of a process that calls a GPU.

In ONNX Runtime the handles of cuBLAS and cuDNN and the recorded CUDA graphs are of the thread that made them, and while
a graph is recorded a CUDA call of any other thread breaks it.
"""

from functools import cache

from worker.timeout_pool import TimeoutPool


@cache
def gpu_thread(index: int) -> TimeoutPool:
    """Return what runs on GPU `index`: making, warming and calling its sessions. Asked for by one thread at a time."""
    return TimeoutPool(1, "card")

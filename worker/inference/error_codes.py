"""Map the exception of an inference call to an error code."""

import re

from tagmill.outcomes import ErrorCode
from worker.inference.call_tracker import StalledCallError

#: out-of-memory messages of ONNX Runtime, its CUDA provider, cuBLAS and cuDNN; onnxruntime has no exception for it
_NO_MEMORY = re.compile(
    r"failed to allocate|smaller than requested bytes|bad_?alloc|out of memory|OUT_OF_MEMORY|ALLOC(ATION)?_FAILED",
    re.IGNORECASE,
)


def error_code_of(error: Exception) -> ErrorCode:
    """Return `timed_out`, `out_of_memory`, or `inference_failed` for everything else."""
    if isinstance(error, StalledCallError):
        return ErrorCode.TIMED_OUT
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return ErrorCode.OUT_OF_MEMORY
    return ErrorCode.INFERENCE_FAILED

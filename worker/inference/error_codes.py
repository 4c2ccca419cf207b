"""What the exception of an inference call says: of its images, or of the memory that there is."""

import re

from tagmill.outcomes import ErrorCode
from worker.inference.call_tracker import StalledCallError

#: what ONNX Runtime, its CUDA provider, cuBLAS and cuDNN say when memory runs out; onnxruntime has no exception for it
_NO_MEMORY = re.compile(
    r"failed to allocate|smaller than requested bytes|bad_?alloc|out of memory|OUT_OF_MEMORY|ALLOC(ATION)?_FAILED",
    re.IGNORECASE,
)


def error_code_of(error: Exception) -> ErrorCode:
    """Return `timed_out`, `out_of_memory`, or `inference_failed` for all else."""
    if isinstance(error, StalledCallError):
        return ErrorCode.TIMED_OUT
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return ErrorCode.OUT_OF_MEMORY
    return ErrorCode.INFERENCE_FAILED

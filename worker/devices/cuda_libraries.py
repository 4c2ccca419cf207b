"""Load the CUDA and TensorRT libraries that pip installed outside the system loader's search path."""

import contextlib
import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

import onnxruntime as ort

from tagmill.errors import ConfigurationError

#: libraries that ONNX Runtime's TensorRT provider is linked with; the second needs the first
_TENSORRT = ("libnvinfer.so.10", "libnvonnxparser.so.10")


@cache
def load_cuda() -> None:
    """Load CUDA and cuDNN before the first session on a GPU. Creating that session fails if a library is missing."""
    ort.set_default_logger_severity(3)  # a missing GPU raises ConfigurationError; no warning is needed
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


@cache
def load_tensorrt() -> None:
    """Load CUDA, then TensorRT: pip's, or else the system's. Raise ConfigurationError if there is neither."""
    load_cuda()
    installed = importlib.util.find_spec("tensorrt_libs")
    folders = [Path(folder) for folder in (installed.submodule_search_locations or [])] if installed else []
    for name in _TENSORRT:
        found = next((str(folder / name) for folder in folders if (folder / name).is_file()), name)
        try:
            ctypes.CDLL(found, ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise ConfigurationError(
                f"device tensorrt: {error}; pip install 'tagmill[gpu,tensorrt]', or choose --device cuda:0"
            ) from error

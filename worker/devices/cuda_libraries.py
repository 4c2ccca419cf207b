"""Loads the libraries of CUDA and TensorRT that pip installed, where the system's loader does not look."""

import contextlib
import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

import onnxruntime as ort

from tagmill.errors import ConfigurationError

#: what ONNX Runtime's provider is linked with; the second needs the first
_TENSORRT = ("libnvinfer.so.10", "libnvonnxparser.so.10")


@cache
def load_cuda() -> None:
    """Load CUDA and cuDNN, before the first session on a GPU. What is missing shows when that session is made."""
    ort.set_default_logger_severity(3)  # that there is no GPU is our own error; it would warn of it, too
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


@cache
def load_tensorrt() -> None:
    """Load TensorRT behind CUDA: pip's, or else the system's. Raises ConfigurationError where there is neither."""
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

"""ONNX Runtime on the CPU, CUDA or TensorRT behind the `Engine` interface."""

import contextlib
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundle import INPUT
from tagmill.errors import BundleError, ConfigurationError
from worker.calls import Calls
from worker.engine import Device, Port, library_error
from worker.gpu import CPU, CUDA, PROVIDER_OF, CardOptions, has_card, provider_options
from worker.gpu_buffers import ShapedCalls
from worker.self_check import Arithmetic


class OnnxRuntimeEngine:
    """One inference session, shared by all threads; on a card with buffers for each batch shape."""

    def __init__(self, path: Path, device: Device, threads: int, card: CardOptions) -> None:
        """Raise BundleError where it cannot be loaded, ConfigurationError where `device` is not what runs it."""
        cores = os.cpu_count() or 1
        self.threads = 1 if device.on_card else min(threads or cores, cores)
        # A CUDA session has one stream: calls from two threads would only wait inside (onnxruntime issue 12049).
        self.parallel = 1 if device.on_card else max(1, cores // self.threads)
        self._turn = threading.Lock() if device.on_card else None
        self._session = _create(path, device, self.threads, card)
        self.provider = str(self._session.get_providers()[0])
        self.version = f"onnxruntime {ort.__version__}"
        wanted = PROVIDER_OF.get(device.kind, CPU)
        if self.provider != wanted:
            raise ConfigurationError(_not_active(device, self.provider, path))
        self.arithmetic = Arithmetic.TF32 if device.on_card else Arithmetic.FLOAT32
        self.inputs = tuple(_port(entry) for entry in self._session.get_inputs())
        self.outputs = tuple(_port(entry) for entry in self._session.get_outputs())
        shaped = device.on_card and card.io_binding
        self._shaped = ShapedCalls(self._session, device.index, card) if shaped else None

    def run(self, names: list[str], images: NDArray[np.uint8], calls: Calls) -> list[NDArray[Any]]:
        """See `Engine.run`. On a card all calls of a session take turns."""
        options = ort.RunOptions()

        def end() -> None:
            options.terminate = True

        with self._turn or contextlib.nullcontext(), calls.running(end):
            if self._shaped is not None:
                return self._shaped.run(names, images, options)
            outputs: list[NDArray[Any]] = self._session.run(names, {INPUT: images}, options)
            return outputs


def card_seen() -> bool:
    """Return whether this machine has a card that ONNX Runtime could use; a session alone tells whether it does."""
    # get_available_providers() names CUDA on any machine with the gpu wheel.
    return CUDA in ort.get_available_providers() and has_card()


def _create(path: Path, device: Device, threads: int, card: CardOptions) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4 if device.on_card else 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A bundle is one file, which its sha256 names. Weights in other files are looked for where nothing can be.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path / "none"))
    if device.on_card:
        ort.set_default_logger_severity(3)  # that there is no card is our own error; it would warn of it, too
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()  # CUDA and cuDNN come as wheels with tagmill[gpu], where the loader does not look
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # a missing provider is our own error
            return ort.InferenceSession(str(path), options, providers=provider_options(device, card))
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        if "external data" in str(error).lower():
            raise BundleError(
                f"{path}: its weights lie in another file; a bundle is one file: export it again"
            ) from error
        raise library_error(path, "ONNX Runtime cannot load it", error) from error


def _not_active(device: Device, found: str, path: Path) -> str:
    if device.kind == "tensorrt" and found == CUDA:
        return (
            f"device {device}: ONNX Runtime gives {found} for {path.name}, not TensorRT; install the TensorRT that "
            "ONNX Runtime was built for (pip install tensorrt), or choose --device cuda:0"
        )
    return (
        f"device {device}: ONNX Runtime gives {found} for {path.name}, not {PROVIDER_OF[device.kind][:-17]}; install "
        "tagmill[gpu] with its CUDA wheels, check nvidia-smi, or choose --device cpu"
    )


def _port(entry: Any) -> Port:
    dtype = entry.type.removeprefix("tensor(").removesuffix(")").replace("float16", "half").replace("float", "float32")
    shape = tuple(size if isinstance(size, int) else None for size in entry.shape)
    return Port(entry.name, dtype.replace("half", "float16").replace("double", "float64"), shape)

"""ONNX Runtime on the CPU, CUDA or TensorRT as a `worker.inference.backend.Backend`."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundles.metadata import INPUT
from tagmill.device import Device
from tagmill.errors import BundleError, ConfigurationError
from tagmill.machine import usable_cores
from worker.devices.cuda_libraries import load_cuda, load_tensorrt
from worker.devices.cuda_thread import gpu_thread
from worker.devices.provider_options import CPU, PROVIDER_OF, GpuOptions, provider_options
from worker.inference.backend import Arithmetic, Port, library_error
from worker.inference.call_tracker import CallTracker
from worker.inference.gpu_buffers import ShapedCalls, largest_fitting

_Result = TypeVar("_Result")

#: name of the batch dimension in graphs of `tagmill export`
_BATCH_DIMENSION = "n"


class OnnxRuntimeBackend:
    """An ONNX Runtime session, shared by all threads. On a GPU it has one thread and one batch shape."""

    def __init__(self, path: Path, device: Device, threads: int, gpu: GpuOptions) -> None:
        """Raise BundleError if the bundle cannot be loaded, ConfigurationError if `device` does not become active."""
        cores = usable_cores()
        self.threads = 1 if device.on_gpu else min(threads or cores, cores)
        # A CUDA session has one stream: calls from two threads would only wait inside (onnxruntime issue 12049).
        self.parallel = 1 if device.on_gpu else max(1, cores // self.threads)
        self._thread = gpu_thread(device.index) if device.on_gpu else None
        self._session, self._shaped = self._on_thread(partial(_open, path, device, self.threads, gpu))
        self.provider = str(self._session.get_providers()[0])
        self.version = f"onnxruntime {ort.__version__}"
        self.arithmetic = Arithmetic.TF32 if device.on_gpu else Arithmetic.FLOAT32
        self.inputs = tuple(_port(entry) for entry in self._session.get_inputs())
        self.outputs = tuple(_port(entry) for entry in self._session.get_outputs())
        self.fixed_batch = self._shaped.batch if self._shaped else 0

    def run(self, names: list[str], images: NDArray[np.uint8], calls: CallTracker) -> list[NDArray[Any]]:
        """See `Backend.run`. On a GPU the calls of all sessions run one after the other."""

        def call() -> list[NDArray[Any]]:
            options = ort.RunOptions()

            def cancel() -> None:
                options.terminate = True

            with calls.track(cancel):
                if self._shaped is not None:
                    return self._shaped.run(names, images, options)
                outputs: list[NDArray[Any]] = self._session.run(names, {INPUT: images}, options)
                return outputs

        return self._on_thread(call)

    def _on_thread(self, call: Callable[[], _Result]) -> _Result:
        return call() if self._thread is None else self._thread.submit(call).result()


def _open(path: Path, device: Device, threads: int, gpu: GpuOptions) -> tuple[ort.InferenceSession, ShapedCalls | None]:
    """Load a bundle; on a GPU, with the largest batch that fits in its memory. Raise what OnnxRuntimeBackend raises."""

    def shaped(batch: int) -> tuple[ort.InferenceSession, ShapedCalls]:
        session = _create(path, device, threads, replace(gpu, batch=batch))
        return session, ShapedCalls(session, batch, device.index)

    try:
        if device.on_gpu and gpu.io_binding:
            return largest_fitting(shaped, gpu.batch)
        return _create(path, device, threads, gpu), None
    except ConfigurationError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base
        if "external data" in str(error).lower():
            raise BundleError(
                f"{path}: its weights lie in another file; a bundle is one file: export it again"
            ) from error
        raise library_error(path, "ONNX Runtime cannot load it", error) from error


def _create(path: Path, device: Device, threads: int, gpu: GpuOptions) -> ort.InferenceSession:
    """Create a session. Raise ConfigurationError if `device` is not active, else what ONNX Runtime raises."""
    if device.on_gpu:
        load_cuda()
    if device.kind == "tensorrt":
        load_tensorrt()
        _make_folder(gpu.engines)
    with warnings.catch_warnings(
        action="ignore", category=UserWarning
    ):  # a missing provider raises ConfigurationError below
        # With the fallback ONNX Runtime would print the reason and use the CPU.
        session = ort.InferenceSession(
            str(path),
            session_options(path, device, threads, gpu),
            providers=provider_options(device, gpu),
            enable_fallback=0,
        )
    found = session.get_providers()[0]
    if found != PROVIDER_OF.get(device.kind, CPU):
        raise ConfigurationError(_not_active(device, found, path))
    return session


def session_options(path: Path, device: Device, threads: int, gpu: GpuOptions) -> ort.SessionOptions:
    """Return the options for the bundle at `path`. On a GPU with IO binding the batch size is fixed."""
    options = ort.SessionOptions()
    options.log_severity_level = 4 if device.on_gpu else 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A bundle is one file, identified by its sha256. Weights in other files are looked up in an impossible folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path / "none"))
    if device.on_gpu and gpu.io_binding:
        # Then TensorRT builds all engines at load time, even of a partitioned graph, and the CPU computes no shapes.
        options.add_free_dimension_override_by_name(_BATCH_DIMENSION, gpu.batch)
    return options


def _make_folder(folder: Path | None) -> None:
    """Create the folder for TensorRT's engines with its parents; ONNX Runtime creates only the last part."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: {error.strerror}; set TAGMILL_CACHE_FOLDER to a folder that can be written to"
        ) from error


def _not_active(device: Device, found: str, path: Path) -> str:
    extras = "gpu,tensorrt" if device.kind == "tensorrt" else "gpu"
    return (
        f"device {device}: ONNX Runtime gives {found} for {path.name}, not {PROVIDER_OF[device.kind][:-17]}; install "
        f"tagmill[{extras}] with its CUDA wheels, check nvidia-smi, or choose --device cpu"
    )


def _port(entry: Any) -> Port:
    dtype = entry.type.removeprefix("tensor(").removesuffix(")").replace("float16", "half").replace("float", "float32")
    shape = tuple(size if isinstance(size, int) else None for size in entry.shape)
    return Port(entry.name, dtype.replace("half", "float16").replace("double", "float64"), shape)

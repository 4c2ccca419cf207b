"""A bundle loaded on a device, which infers images."""

import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.bundles.golden import GoldenSamples
from tagmill.bundles.metadata import GOLDEN, INPUT, BundleSpec, Precision, sha256_of
from tagmill.bundles.onnx_file import read_metadata
from tagmill.device import Device
from tagmill.errors import BundleError
from tagmill.tasks.base import ACTIVATION_MAP, EMBEDDING, SCORES, TOP_LABELS, TOP_SCORES, Prediction
from worker.devices.provider_options import CPU, CUDA, TENSORRT, GpuOptions
from worker.devices.resolve import resolve_device
from worker.inference.backend import Backend, Port, library_error
from worker.inference.call_tracker import CallTracker
from worker.inference.dynamic_batching import DynamicBatcher
from worker.inference.golden_check import check_answers, check_scores, probe_images, tolerance
from worker.spending import GPU_CLOCK

__all__ = ["CPU", "CUDA", "TENSORRT", "Session"]

# Creating sessions from several threads at once is not safe (onnxruntime issues 27063, 27089).
_creation_lock = threading.Lock()

#: images of a call if nothing was measured: on CPUs the speed is flat from 8 to 32
DEFAULT_BATCH = 16


class Session:
    """One bundle, loaded once and called from any thread.

    `device` is auto, cpu, cuda:N, tensorrt:N or openvino. auto means CUDA if ONNX Runtime sees a GPU, else the CPU.
    `threads` is the number of threads of one call on a CPU; 0 means all cores. `batch` is the number of images of one
    call that is fastest on this machine; 0 means the default.

    Raise ConfigurationError if the device is not active; ONNX Runtime itself would continue on the CPU. Raise
    BundleError if the bundle cannot be loaded, if its golden samples give other answers than at export, or if
    their scores are not from 0 to 1.
    """

    def __init__(
        self, path: Path, device: str = "auto", threads: int = 0, batch: int = 0, gpu: GpuOptions | None = None
    ) -> None:
        self.path = path
        self.sha256 = sha256_of(path)
        metadata = read_metadata(path)
        self.spec, golden = _read_description(path, metadata)
        with _creation_lock:
            self._backend = open_backend(
                path, resolve_device(device), threads, self._gpu_options(gpu or GpuOptions(), batch)
            )
        self.provider = self._backend.provider
        #: how the device multiplies float32
        self.arithmetic = self._backend.arithmetic
        #: best labels that the graph itself returns; 0 if it returns all scores only
        self.top_k = _check_graph(self._backend, self.spec, path)
        #: images that each call is padded to; 0: calls are of any size
        self.fixed_batch = self._backend.fixed_batch
        #: images of one call that are fastest for this bundle and machine
        self.best_batch = self.fixed_batch or batch or DEFAULT_BATCH
        #: threads of one call
        self.threads = self._backend.threads
        #: calls that run at the same time; further calls wait
        self.parallel = self._backend.parallel
        self.calls = CallTracker()
        session = weakref.proxy(self)  # no cycle: a session that is dropped frees the GPU's memory at once
        #: shares calls among the batches that infer at the same time
        self.batched = DynamicBatcher(
            lambda images: session.run(images, best_only=True),
            self.parallel,
            GPU_CLOCK if self.provider in (CUDA, TENSORRT) else None,
        )
        #: least side in pixels that decoding may shrink an image to
        self.decode_side = self.spec.preprocess.decode_side
        given = {EMBEDDING: self.spec.embedding, ACTIVATION_MAP: self.spec.activation_map}
        further = [name for name, wanted in given.items() if wanted]
        self._outputs = [*self.spec.task.wanted_outputs(0), *further]
        self._best_outputs = [*self.spec.task.wanted_outputs(self.top_k), *further]
        #: most images of one call, once a larger one ran out of memory
        self.largest_call: int | None = None
        #: a golden sample, uint8 [1, height, width, 3], which this device infers; None if the bundle has none
        self.sample = golden.images[:1] if golden else None
        #: difference of the golden samples' answers from those at export; None if the bundle has none
        self.golden_difference = self._check_golden(golden) if golden else None

    def run(self, images: NDArray[np.uint8], best_only: bool = False) -> Prediction:
        """Infer uint8 [N, height, width, 3] RGB. With `best_only`, a graph with top labels returns only those.

        Raise StalledCallError if the call was cancelled through `calls`, and what the library raises.
        """
        names = self._best_outputs if best_only else self._outputs
        found = dict(zip(names, self._backend.run(names, images, self.calls), strict=True))
        prediction = self.spec.task.prediction(found)
        if not (EMBEDDING in found or ACTIVATION_MAP in found):
            return prediction
        return replace(prediction, embedding=found.get(EMBEDDING), activation_map=found.get(ACTIVATION_MAP))

    def require_scores(self) -> None:
        """Raise BundleError if the scores of black, white and noise are not from 0 to 1.

        For a bundle that was not made by `tagmill export`: it has no golden samples, whose scores are checked already.
        """
        if self.golden_difference is not None:
            return
        try:
            found = self.run(probe_images(self.spec.preprocess.height, self.spec.preprocess.width))
        except Exception:  # a graph that refuses such images; if it refuses all, that is the outcome of each image
            return
        check_scores(self.path, self.provider, found)

    def _gpu_options(self, gpu: GpuOptions, batch: int) -> GpuOptions:
        half = self.spec.precision is Precision.FP16
        # The names of TensorRT's engine files do not depend on the weights.
        cache = gpu.cache and gpu.cache / self.sha256[:12]
        return replace(gpu, half=half, cache=cache, batch=batch or gpu.batch)

    def _check_golden(self, golden: GoldenSamples) -> float:
        allowed = tolerance(self.spec.precision, self.arithmetic)
        try:
            found = self.run(golden.images)
        except Exception as error:  # the libraries' exceptions have no common base
            raise library_error(self.path, f"on {self.provider} it fails", error) from error
        difference = check_answers(self.path, self.provider, self.spec.task, golden, found, allowed)
        check_scores(self.path, self.provider, found)
        return difference


def _read_description(path: Path, metadata: dict[str, str]) -> tuple[BundleSpec, GoldenSamples | None]:
    """Return the spec and the golden samples in a bundle's metadata. Raise BundleError if they are not valid."""
    try:
        spec = BundleSpec.from_metadata(metadata)
        return spec, GoldenSamples.from_text(metadata[GOLDEN], spec) if GOLDEN in metadata else None
    except BundleError as error:
        raise BundleError(f"{path}: {error}; make a bundle with `tagmill export`") from error


def open_backend(path: Path, device: Device, threads: int, gpu: GpuOptions) -> Backend:
    """Load the bundle with the library for `device`."""
    if device.kind == "openvino":
        from worker.inference.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(path, threads)
    from worker.inference.onnxruntime_backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, device, threads, gpu)


def _check_embedding(port: Port | None, width: int, path: Path) -> None:
    if port is None or port.dtype != "float32" or port.shape[1:] not in {(None,), (width,)}:
        raise BundleError(f"{path}: its graph gives no embedding of {width} numbers; export it again")


def _check_activation_map(port: Port | None, path: Path) -> None:
    if port is None or port.dtype != "uint8" or len(port.shape) != 3:
        raise BundleError(f"{path}: its graph gives no activation map uint8 [N, height, width]; export it again")


def _check_graph(backend: Backend, spec: BundleSpec, path: Path) -> int:
    """Return how many top labels the graph returns, or 0. Raise BundleError if its ports do not match `spec`."""
    shape = (spec.preprocess.height, spec.preprocess.width, 3)
    found = {port.name: port for port in backend.inputs}
    if list(found) != [INPUT] or found[INPUT].dtype != "uint8" or found[INPUT].shape[1:] != shape:
        raise BundleError(f"{path}: its input is not uint8 [N, {', '.join(map(str, shape))}]; export it again")
    outputs = {port.name: port for port in backend.outputs}
    needed = set(spec.task.outputs)
    if TOP_SCORES in outputs:
        needed.add(TOP_LABELS)
    if missing := needed - set(outputs):
        raise BundleError(f"{path}: the graph has no output {', '.join(sorted(missing))}; export it again")
    if spec.embedding:
        _check_embedding(outputs.get(EMBEDDING), spec.embedding, path)
    if spec.activation_map:
        _check_activation_map(outputs.get(ACTIVATION_MAP), path)
    scores = outputs[SCORES].shape if SCORES in outputs else ()  # () if the graph does not declare it
    if scores and scores[1:] not in {(None,), (len(spec.labels),)}:
        raise BundleError(f"{path}: its scores are not one for each of its {len(spec.labels)} labels; export it again")
    return int(outputs[TOP_SCORES].shape[1] or 0) if TOP_SCORES in outputs else 0

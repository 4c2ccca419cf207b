"""A loaded bundle: one call for its task, on the library and device that were asked for."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.bundles.golden import GoldenSamples
from tagmill.bundles.onnx_metadata import read_metadata
from tagmill.bundles.spec import GOLDEN, INPUT, BundleSpec, Precision, sha256_of
from tagmill.device import Device
from tagmill.errors import BundleError
from tagmill.tasks.base import SCORES, TOP_LABELS, TOP_SCORES, Prediction
from worker.devices.provider_options import CPU, CUDA, TENSORRT, GpuOptions
from worker.devices.resolve import resolve
from worker.inference.backend import Backend, library_error
from worker.inference.call_tracker import CallTracker
from worker.inference.golden_check import check_answers, tolerance

__all__ = ["CPU", "CUDA", "TENSORRT", "Session"]

# Creating sessions from several threads at once is not safe (onnxruntime issues 27063, 27089).
_creation = threading.Lock()

#: images of a call where nothing was measured: on CPUs the speed is flat from 8 to 32
DEFAULT_BATCH = 16


class Session:
    """One bundle, loaded once and called from any thread.

    `device` is auto, cpu, cuda:N, tensorrt:N or openvino. With auto, CUDA is taken where ONNX Runtime sees a GPU. A
    device that is not active raises ConfigurationError; ONNX Runtime itself would go on with the CPU. `threads` are
    those of one call on a CPU, 0 meaning all cores. `batch` is the images of one call that suit the bundle here, 0
    meaning what suits most. A bundle whose golden samples come out otherwise than where it was made raises BundleError.
    """

    def __init__(
        self, path: Path, device: str = "auto", threads: int = 0, batch: int = 0, card: GpuOptions | None = None
    ) -> None:
        self.path = path
        self.sha256 = sha256_of(path)
        metadata = read_metadata(path)
        self.spec, golden = _described(path, metadata)
        with _creation:
            self._backend = _open(path, resolve(device), threads, self._gpu_options(card or GpuOptions(), batch))
        self.provider = self._backend.provider
        #: what its library computes with
        self.arithmetic = self._backend.arithmetic
        #: labels that the graph itself picks out; 0 where it gives all scores only
        self.top_k = _check_graph(self._backend, self.spec, path)
        #: images that each call is filled up to; 0: a call is as large as what it is given
        self.fixed_batch = self._backend.fixed_batch
        #: images of one call that suit this bundle and machine
        self.best_batch = self.fixed_batch or batch or DEFAULT_BATCH
        #: threads of one call
        self.threads = self._backend.threads
        #: calls that run at the same time; more of them wait for each other
        self.parallel = self._backend.parallel
        self.calls = CallTracker()
        #: images that one call may hold, once a larger one ran out of memory
        self.largest_call: int | None = None
        #: an image that is answered here, uint8 [1, height, width, 3], or None where the bundle has none
        self.sample = golden.images[:1] if golden else None
        #: how far the golden samples are off here, or None where the bundle has none
        self.golden_difference = self._check_golden(golden) if golden else None

    def run(self, images: NDArray[np.uint8], best_only: bool = False) -> Prediction:
        """Infer uint8 [N, height, width, 3] RGB. With `best_only` a graph that picks labels gives those alone.

        Raises StalledCallError where `calls` cut it off, and what the library raises.
        """
        names = self.spec.task.wanted_outputs(self.top_k if best_only else 0)
        found = self._backend.run(names, images, self.calls)
        return self.spec.task.prediction(dict(zip(names, found, strict=True)))

    def _gpu_options(self, card: GpuOptions, batch: int) -> GpuOptions:
        half = self.spec.precision is Precision.FP16
        # TensorRT's names for its engines say nothing of the weights.
        cache = card.cache and card.cache / self.sha256[:12]
        return replace(card, half=half, cache=cache, batch=batch or card.batch)

    def _check_golden(self, golden: GoldenSamples) -> float:
        allowed = tolerance(self.spec.precision, self.arithmetic)
        try:
            found = self.run(golden.images)
        except Exception as error:  # the libraries raise families of their own without a common base
            raise library_error(self.path, f"on {self.provider} it fails", error) from error
        return check_answers(self.path, self.provider, self.spec.task, golden, found, allowed)


def _described(path: Path, metadata: dict[str, str]) -> tuple[BundleSpec, GoldenSamples | None]:
    """Return what a bundle says of itself, with its golden samples. Raises BundleError where it is not understood."""
    try:
        spec = BundleSpec.from_metadata(metadata)
        return spec, GoldenSamples.from_text(metadata[GOLDEN], spec) if GOLDEN in metadata else None
    except BundleError as error:
        raise BundleError(f"{path}: {error}; make a bundle with `tagmill export`") from error


def _open(path: Path, device: Device, threads: int, card: GpuOptions) -> Backend:
    """Load the library that `device` needs, and the bundle with it."""
    if device.kind == "openvino":
        from worker.inference.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(path, threads)
    from worker.inference.onnxruntime_backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, device, threads, card)


def _check_graph(backend: Backend, spec: BundleSpec, path: Path) -> int:
    """Return how many labels the graph picks out itself, or 0. Raises BundleError where it is no graph of `spec`."""
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
    scores = outputs[SCORES].shape  # () where the graph does not say
    if scores and scores[1:] not in {(None,), (len(spec.labels),)}:
        raise BundleError(f"{path}: its scores are not one for each of its {len(spec.labels)} labels; export it again")
    return int(outputs[TOP_SCORES].shape[1] or 0) if TOP_SCORES in outputs else 0

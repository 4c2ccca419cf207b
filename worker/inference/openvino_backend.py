"""OpenVINO on the CPU as a `worker.inference.backend.Backend`.

It reads the bundle itself; nothing is converted on disk. Documentation:
https://docs.openvino.ai/2026/openvino-workflow/running-inference.html (compiled models, infer
requests, properties) and, for CPUs, .../running-inference/inference-devices-and-modes/cpu-device.html.
"""

from collections.abc import Sequence
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.bundles.metadata import INPUT
from tagmill.errors import ConfigurationError
from tagmill.machine import cpu_flags, usable_cores
from worker.inference.backend import Arithmetic, Port, library_error
from worker.inference.call_tracker import CallTracker

PROVIDER = "OpenVINO-CPU"

#: `INFERENCE_PRECISION_HINT` -> how the device multiplies float32
_ARITHMETIC = {"f32": Arithmetic.FLOAT32, "f16": Arithmetic.TF32, "bf16": Arithmetic.BFLOAT16}


class OpenVinoBackend:
    """A compiled model with one infer request per call that may run at the same time."""

    def __init__(self, path: Path, threads: int) -> None:
        """Raise BundleError if OpenVINO cannot load the bundle, ConfigurationError if OpenVINO is not installed."""
        library = _library()
        cores = usable_cores()
        self.threads = min(threads or cores, cores)
        self.parallel = max(1, cores // self.threads)
        self.fixed_batch = 0
        core = library.Core()
        try:
            # OpenVINO would read weights from any file that the bundle names; `tagmill.bundles.onnx_file` has
            # already refused such bundles.
            compiled = core.compile_model(core.read_model(path), "CPU", properties(self.threads, self.parallel))
        except Exception as error:  # OpenVINO raises RuntimeError for a bad file and for a machine that does not suit
            raise library_error(path, "OpenVINO cannot load it", error) from error
        devices = compiled.get_property("EXECUTION_DEVICES")
        if devices != ["CPU"]:
            raise ConfigurationError(f"device openvino: {path.name} runs on {', '.join(devices)}; choose --device cpu")
        self.provider = PROVIDER
        self.version = f"openvino {library.get_version().partition('-')[0]}"
        self.arithmetic = _ARITHMETIC[compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
        self.inputs = _ports(compiled.inputs)
        self.outputs = _ports(compiled.outputs)
        self._requests: LifoQueue[Any] = LifoQueue()
        for _ in range(self.parallel):
            self._requests.put(compiled.create_infer_request())

    def run(self, names: list[str], images: NDArray[np.uint8], calls: CallTracker) -> list[NDArray[Any]]:
        """See `Backend.run`."""
        request = self._requests.get()
        try:
            with calls.track(request.cancel):
                # Only an asynchronous call can be cancelled: `infer` ignores `cancel`.
                request.start_async({INPUT: np.ascontiguousarray(images)}, share_inputs=True)
                request.wait()
                # Copy: the outputs are in the request's memory, which the next call overwrites.
                return [np.array(request.get_tensor(name).data) for name in names]
        finally:
            self._requests.put(request)


def properties(threads: int, parallel: int) -> dict[str, Any]:
    """Return the properties with which `parallel` calls run at the same time, each on `threads` threads.

    OpenVINO chooses the precision, with one exception: on a CPU with AVX512-BF16 and no AMX it would choose bfloat16,
    which is slower there than float32 (ResNet-50: 17 images/s, 29 in float32).
    """
    found = cpu_flags()
    slow_bf16 = "avx512_bf16" in found and "amx_bf16" not in found
    return ({"INFERENCE_PRECISION_HINT": "f32"} if slow_bf16 else {}) | {
        "PERFORMANCE_HINT": "THROUGHPUT" if parallel > 1 else "LATENCY",
        "NUM_STREAMS": parallel,
        "INFERENCE_NUM_THREADS": threads * parallel,
        # Pinned threads would compete for the same cores with the threads of other workers and of decoding.
        "ENABLE_CPU_PINNING": False,
    }


def _library() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "device openvino: the package openvino is not installed; run: pip install 'tagmill[openvino]'"
        ) from error
    return openvino


def _ports(entries: Sequence[Any]) -> tuple[Port, ...]:
    def shape(entry: Any) -> tuple[int | None, ...]:
        return tuple(size.get_length() if size.is_static else None for size in entry.get_partial_shape())

    return tuple(
        Port(name, entry.get_element_type().to_dtype().name, shape(entry))
        for entry in entries
        for name in sorted(entry.get_names())
    )

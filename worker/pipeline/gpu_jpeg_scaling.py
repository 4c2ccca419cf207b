"""Scale an image in GPU memory as libjpeg scales one while decoding (DCT scaling).

libjpeg keeps the lowest k of the 8 frequencies of each block in each direction and turns them back into k pixels. These
are two matrix products, which ONNX Runtime computes on the GPU, so only the small image is copied from it.
"""

import threading
import warnings
from functools import cache

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.errors import ConfigurationError, first_line
from tagmill.images.image import Pixels
from worker.devices.cuda_libraries import load_cuda
from worker.devices.provider_options import CPU, CUDA, GpuOptions, Provider, cuda_options

#: width and height of a JPEG block in pixels
BLOCK = 8
#: images that are scaled at the same time: each takes GPU memory
_PARALLEL = 2
#: seconds that an image waits to be scaled before the CPU decodes it
_WAITING_SECONDS = 10.0


class DctScaler:
    """Scales images on GPU `index`, or on the CPU in a test. One instance serves all threads."""

    def __init__(self, index: int, memory: int = 0, place: str = "cuda") -> None:
        """Use at most `memory` bytes of GPU memory, 0 meaning all. Raise ConfigurationError if CUDA is not active."""
        providers: list[Provider] = [CPU]
        if place == "cuda":
            load_cuda()
            providers.insert(0, (CUDA, cuda_options(index, GpuOptions(memory))))
        try:
            with warnings.catch_warnings(action="ignore"):  # a missing provider raises ConfigurationError below
                self._session = ort.InferenceSession(
                    _graph(), _session_options(), providers=providers, enable_fallback=0
                )
        except Exception as error:  # onnxruntime's exceptions have no common base
            reason = first_line(error)
            raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: GPU {index} is not used: {reason}") from error
        if self._session.get_providers()[0] != (CUDA if place == "cuda" else CPU):
            # Without CUDA it would read GPU addresses as host addresses.
            raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: ONNX Runtime finds no CUDA on GPU {index}")
        self._place = (place, index)
        self._turns = threading.Semaphore(_PARALLEL)
        self._run = ort.RunOptions()
        # Images are of any size: free the memory that a large one needed.
        arena = "gpu" if place == "cuda" else place
        self._run.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"{arena}:{index}")

    def scale(self, address: int, height: int, width: int, eighths: int) -> Pixels:
        """Return uint8 [height, width, 3] at `address` scaled to k/8 of its size, rounded up."""
        down, across = -(-height // BLOCK), -(-width // BLOCK)
        small = scaling_matrix(eighths)
        given = {
            "pads": np.array([0, 0, 0, down * BLOCK - height, across * BLOCK - width, 0]),
            "blocks": np.array([down, BLOCK, across * BLOCK * 3]),
            "rows": np.array([down * eighths, across, BLOCK, 3]),
            "whole": np.array([down * eighths, across * eighths, 3]),
            "vertical": small,
            "horizontal": small.T.copy(),
        }
        binding = self._session.io_binding()
        binding.bind_input("pixels", *self._place, np.uint8, (height, width, 3), address)
        for name, value in given.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output("small", "cpu")
        if not self._turns.acquire(timeout=_WAITING_SECONDS):
            raise RuntimeError("the GPU did not scale earlier images in time")
        try:
            binding.synchronize_inputs()  # wait: the GPU may still be decoding
            self._session.run_with_iobinding(binding, self._run)
        finally:
            self._turns.release()
        found: Pixels = binding.copy_outputs_to_cpu()[0]
        rows, columns = scaled_size(height, width, eighths)
        return np.ascontiguousarray(found[:rows, :columns])


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # no warnings that shapes are computed on the CPU
    options.enable_mem_pattern = False  # it would keep a plan for each image size
    return options


def scaled_size(height: int, width: int, eighths: int) -> tuple[int, int]:
    """Return k/8 of a size, rounded up."""
    return -(-height * eighths // BLOCK), -(-width * eighths // BLOCK)


@cache
def scaling_matrix(eighths: int) -> NDArray[np.float32]:
    """Return the matrix [k, 8] that reduces 8 samples to k through the lowest k frequencies of their DCT."""
    low = np.sqrt(eighths / BLOCK) * _dct_matrix(eighths).T @ _dct_matrix(BLOCK)[:eighths]
    return np.asarray(low, np.float32)


def _dct_matrix(size: int) -> NDArray[np.float64]:
    """Return the orthonormal DCT-II, [frequencies, samples]."""
    frequency, sample = np.mgrid[0:size, 0:size]
    waves = np.cos(np.pi * (2 * sample + 1) * frequency / (2 * size)) * np.sqrt(2 / size)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves)


def _graph() -> bytes:
    from onnx import TensorProto, helper  # installed by the extra gpu-decode

    nodes = [
        helper.make_node("Cast", ["pixels"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Pad", ["levels", "pads"], ["padded"], mode="edge"),
        helper.make_node("Reshape", ["padded", "blocks"], ["columns"]),
        helper.make_node("MatMul", ["vertical", "columns"], ["lower"]),
        helper.make_node("Reshape", ["lower", "rows"], ["spread"]),
        helper.make_node("Transpose", ["spread"], ["channels"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["channels", "horizontal"], ["narrower"]),
        helper.make_node("Transpose", ["narrower"], ["mixed"], perm=[0, 1, 3, 2]),
        helper.make_node("Reshape", ["mixed", "whole"], ["image"]),
        helper.make_node("Clip", ["image", "least", "most"], ["clipped"]),
        helper.make_node("Round", ["clipped"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["small"], to=TensorProto.UINT8),
    ]
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["height", "width", 3]),
        *(
            helper.make_tensor_value_info(name, TensorProto.INT64, [None])
            for name in ("pads", "blocks", "rows", "whole")
        ),
        helper.make_tensor_value_info("vertical", TensorProto.FLOAT, ["k", BLOCK]),
        helper.make_tensor_value_info("horizontal", TensorProto.FLOAT, [BLOCK, "k"]),
    ]
    outputs = [helper.make_tensor_value_info("small", TensorProto.UINT8, [None, None, 3])]
    limits = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("least", 0.0), ("most", 255.0))
    ]
    graph = helper.make_graph(nodes, "scale", inputs, outputs, limits)
    opset = [helper.make_opsetid("", 20)]
    serialized: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return serialized

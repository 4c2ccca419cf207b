"""Shrink a decoded image on the GPU as libjpeg shrinks one while it decodes (DCT scaling).

libjpeg keeps the lowest k of the 8 frequencies of each block in each direction and transforms them back to k pixels.
These are two matrix products, which ONNX Runtime computes on the GPU. Only the small image is then copied to the host.
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

#: pixels of a JPEG block in each direction
BLOCK = 8
#: images that are shrunk at the same time: each takes GPU memory
_MAX_PARALLEL = 2
#: seconds after which an image that waits for the GPU is left to the CPU
_WAITING_SECONDS = 10.0


class Shrinker:
    """The graph that shrinks images, on a GPU, or on the CPU in a test. One instance serves all threads."""

    def __init__(self, index: int, memory: int = 0, place: str = "cuda") -> None:
        """Use at most `memory` bytes of GPU `index`; 0 means all. Raise ConfigurationError if CUDA is not active."""
        providers: list[Provider] = [CPU]
        if place == "cuda":
            load_cuda()
            providers.insert(0, (CUDA, cuda_options(index, GpuOptions(memory))))
        try:
            with warnings.catch_warnings(action="ignore"):  # a missing provider, which is checked below
                self._session = ort.InferenceSession(
                    _graph(), _session_options(), providers=providers, enable_fallback=0
                )
        except Exception as error:  # the exceptions of onnxruntime have no common base class
            reason = first_line(error)
            raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: GPU {index} is not used: {reason}") from error
        if self._session.get_providers()[0] != (CUDA if place == "cuda" else CPU):
            # Another provider would read the GPU's addresses as the host's.
            raise ConfigurationError(f"TAGMILL_DECODE_ON_GPU: ONNX Runtime finds no CUDA on GPU {index}")
        self._place = (place, index)
        self._turns = threading.Semaphore(_MAX_PARALLEL)
        self._run = ort.RunOptions()
        # Images are of any size: free the memory that a large one needed.
        arena = "gpu" if place == "cuda" else place
        self._run.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"{arena}:{index}")

    def shrink(self, address: int, height: int, width: int, eighths: int) -> Pixels:
        """Shrink uint8 [height, width, 3] at `address` to k/8 of its size, rounded up: uint8 [rows, columns, 3]."""
        down, across = -(-height // BLOCK), -(-width // BLOCK)
        small = scaling(eighths)
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
            raise RuntimeError("the images before it are not shrunk")
        try:
            binding.synchronize_inputs()  # the GPU may still be decoding
            self._session.run_with_iobinding(binding, self._run)
        finally:
            self._turns.release()
        found: Pixels = binding.copy_outputs_to_cpu()[0]
        rows, columns = shrunk(height, width, eighths)
        return np.ascontiguousarray(found[:rows, :columns])


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # else it warns that shapes are computed on the CPU
    options.enable_mem_pattern = False  # else it keeps a plan for each image size
    return options


def shrunk(height: int, width: int, eighths: int) -> tuple[int, int]:
    """Return k/8 of a size in each direction, rounded up."""
    return -(-height * eighths // BLOCK), -(-width * eighths // BLOCK)


@cache
def scaling(eighths: int) -> NDArray[np.float32]:
    """Return float32 [k, 8], which maps 8 samples to k through the lowest k frequencies of their cosine transform."""
    low = np.sqrt(eighths / BLOCK) * _cosines(eighths).T @ _cosines(BLOCK)[:eighths]
    return np.asarray(low, np.float32)


def _cosines(size: int) -> NDArray[np.float64]:
    """Return the orthonormal DCT-II, [frequencies, samples]."""
    frequency, sample = np.mgrid[0:size, 0:size]
    waves = np.cos(np.pi * (2 * sample + 1) * frequency / (2 * size)) * np.sqrt(2 / size)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves)


def _graph() -> bytes:
    from onnx import TensorProto, helper  # part of the extra gpu-decode

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
    graph = helper.make_graph(nodes, "shrink", inputs, outputs, limits)
    opset = [helper.make_opsetid("", 20)]
    serialized: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return serialized

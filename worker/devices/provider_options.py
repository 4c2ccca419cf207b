"""The options of ONNX Runtime's CUDA and TensorRT providers.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html and TensorRT-ExecutionProvider.html list
them. Nothing here needs a GPU.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from tagmill.device import Device

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
#: kind of a device -> the provider that must be active
PROVIDER_OF = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

_DEVICE_FILES = Path("/dev")

Provider = str | tuple[str, dict[str, str]]


@dataclass(frozen=True)
class GpuOptions:
    """How a session uses a GPU. `worker.inference.session_loader` builds it from the settings."""

    #: bytes of GPU memory that ONNX Runtime may use for one bundle; 0: all
    memory: int = 0
    #: record the kernels of a call as a CUDA graph, which is started as one
    graphs: bool = False
    #: folder for a bundle's TensorRT engines, which take minutes to build; None: build them at each start
    cache: Path | None = None
    #: allow float16 in TensorRT, which otherwise may compute a float16 bundle in float32
    half: bool = False
    #: keep inputs and outputs in buffers that are allocated once; False: calls are of any size
    io_binding: bool = True
    #: images of each call: memory is allocated and kernels are chosen for this shape only
    batch: int = 64

    @property
    def engines(self) -> Path | None:
        """Return the folder for engines of this batch size; their file names do not contain it."""
        return self.cache and self.cache / str(self.batch)


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU, usable or not."""
    return any(_DEVICE_FILES.glob("nvidia[0-9]*"))


def provider_options(device: Device, gpu: GpuOptions) -> list[Provider]:
    """Return the providers in order of preference; each runs the nodes that those before it cannot."""
    providers: list[Provider] = [CPU]
    if device.on_gpu:
        # With TensorRT, TensorRT records the CUDA graph.
        graphs = gpu.graphs and device.kind == "cuda"
        providers.insert(0, (CUDA, cuda_options(device.index, replace(gpu, graphs=graphs))))
    if device.kind == "tensorrt":
        providers.insert(0, (TENSORRT, tensorrt_options(device.index, gpu)))
    return providers


def cuda_options(index: int, gpu: GpuOptions) -> dict[str, str]:
    """Return the options of the CUDA provider."""
    options = {
        "device_id": str(index),
        # The default strategy doubles the allocation, and another process's bundle may then find no memory.
        "arena_extend_strategy": "kSameAsRequested",
        # EXHAUSTIVE tries every algorithm again for each new shape.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if gpu.memory:
        options["gpu_mem_limit"] = str(gpu.memory)
    if gpu.graphs:
        options["enable_cuda_graph"] = "1"
    return options


def tensorrt_options(index: int, gpu: GpuOptions) -> dict[str, str]:
    """Return the options of the TensorRT provider."""
    options = {"device_id": str(index)}
    if gpu.half:
        options["trt_fp16_enable"] = "1"
    if gpu.memory:
        options["trt_max_workspace_size"] = str(gpu.memory)
    if gpu.graphs:
        options["trt_cuda_graph_enable"] = "1"
    if gpu.engines is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(gpu.engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(gpu.engines),
        }
    return options

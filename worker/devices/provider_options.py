"""What a session on a GPU is made with: provider options, and the batch that it is called with.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html and TensorRT-ExecutionProvider.html list
the options. Nothing here needs a GPU.
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
    """How a GPU is used. Built from the settings, see `worker.inference.session_loader`."""

    #: bytes of its memory that ONNX Runtime may take for one bundle; 0: all of it
    memory: int = 0
    #: the kernels of a call are recorded and started as one
    graphs: bool = False
    #: folder that keeps a bundle's TensorRT engines, which take minutes to build; None: they are built at each start
    cache: Path | None = None
    #: float16 in TensorRT, which else computes a float16 bundle in float32 wherever it sees fit
    half: bool = False
    #: inputs and outputs stay in buffers that are made once; False: calls are of any size
    io_binding: bool = True
    #: images of each call: memory is set aside and kernels are chosen for one shape alone
    batch: int = 64

    @property
    def engines(self) -> Path | None:
        """Return the folder for engines of this batch: their names do not tell them from those of another."""
        return self.cache and self.cache / str(self.batch)


def has_gpu() -> bool:
    """Return whether this machine has a GPU of NVIDIA, whatever can use it."""
    return any(_DEVICE_FILES.glob("nvidia[0-9]*"))


def provider_options(device: Device, card: GpuOptions) -> list[Provider]:
    """Return the providers in the order of preference; those that follow take what the first cannot run."""
    providers: list[Provider] = [CPU]
    if device.on_gpu:
        # Beside TensorRT the graph is TensorRT's.
        graphs = card.graphs and device.kind == "cuda"
        providers.insert(0, (CUDA, cuda_options(device.index, replace(card, graphs=graphs))))
    if device.kind == "tensorrt":
        providers.insert(0, (TENSORRT, tensorrt_options(device.index, card)))
    return providers


def cuda_options(index: int, card: GpuOptions) -> dict[str, str]:
    """Return the options of the CUDA provider."""
    options = {
        "device_id": str(index),
        # As much as is asked for: the other strategy doubles, and another process's bundle then finds no memory.
        "arena_extend_strategy": "kSameAsRequested",
        # By rules, at once. EXHAUSTIVE tries every algorithm again for each new shape.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if card.memory:
        options["gpu_mem_limit"] = str(card.memory)
    if card.graphs:
        options["enable_cuda_graph"] = "1"
    return options


def tensorrt_options(index: int, card: GpuOptions) -> dict[str, str]:
    """Return the options of the TensorRT provider."""
    options = {"device_id": str(index)}
    if card.half:
        options["trt_fp16_enable"] = "1"
    if card.memory:
        options["trt_max_workspace_size"] = str(card.memory)
    if card.graphs:
        options["trt_cuda_graph_enable"] = "1"
    if card.engines is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(card.engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(card.engines),
        }
    return options

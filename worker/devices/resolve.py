"""Which device `auto` means on this machine."""

import onnxruntime as ort

from worker.devices.device import Device
from worker.devices.provider_options import CUDA, has_gpu


def gpu_visible() -> bool:
    """Return whether this machine has a GPU that ONNX Runtime could use; a session alone tells whether it does."""
    # get_available_providers() names CUDA on any machine with the gpu wheel.
    return CUDA in ort.get_available_providers() and has_gpu()


def resolve(device: str) -> Device:
    """Return the device that `device` means here: auto is the first GPU where ONNX Runtime sees one, else the CPU."""
    wanted = Device.parse(device)
    if wanted.kind != "auto":
        return wanted
    from worker.devices.resolve import gpu_visible

    return Device("cuda" if gpu_visible() else "cpu")

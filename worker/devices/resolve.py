"""Resolve `auto` to a device of this machine."""

from tagmill.device import Device
from tagmill.errors import ConfigurationError
from worker.devices.provider_options import CUDA, has_gpu


def gpu_visible() -> bool:
    """Return whether ONNX Runtime has CUDA and the machine has a GPU. Only a session shows whether it works."""
    if not has_gpu():
        return False
    import onnxruntime as ort  # not for the module: processes that fork later import it

    return CUDA in ort.get_available_providers()  # which is so on any machine with the gpu wheel


def resolve_device(device: str) -> Device:
    """Return the device that `device` names: auto is the first GPU if ONNX Runtime sees one, else the CPU.

    Raise ConfigurationError if `device` is not a device.
    """
    try:
        wanted = Device.parse(device)
    except ValueError as error:
        raise ConfigurationError(f"device {device}: {error}") from error
    if wanted.kind != "auto":
        return wanted
    return Device("cuda" if gpu_visible() else "cpu")

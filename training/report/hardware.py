"""Describe the machine that a training ran on. Its speed means little without that."""

import sys

from tagmill.machine import cpu_name, memory_bytes, usable_cores


def hardware(device: str) -> str:
    """Return the GPU, if `device` is one, the CPU, the cores and the memory that were usable, in one line."""
    words = [*_gpu(device), " ".join(cpu_name().split()), f"{usable_cores()} cores"]
    if memory := _memory():
        words.append(f"{memory:.0f} GiB of memory")
    return ", ".join(words)


def _gpu(device: str) -> list[str]:
    if not device.startswith("cuda"):
        return []
    torch = sys.modules["torch"]  # loaded, because it has just trained there; not imported here
    return [str(torch.cuda.get_device_name(device))]


def _memory() -> float | None:
    try:
        return memory_bytes() / 2**30
    except (ValueError, OSError, AttributeError):  # not supported on this system
        return None

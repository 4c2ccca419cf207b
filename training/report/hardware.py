"""Describe the machine that a training ran on. Its speed means little without that."""

import os
import platform
import sys
from pathlib import Path


def hardware(device: str) -> str:
    """Return the GPU, if `device` is one, the processor, its cores and the memory, in one line."""
    words = [*_gpu(device), _processor(), f"{_cores()} cores"]
    if memory := _memory():
        words.append(f"{memory:.0f} GiB of memory")
    return ", ".join(words)


def _gpu(device: str) -> list[str]:
    if not device.startswith("cuda"):
        return []
    torch = sys.modules["torch"]  # loaded, because it has just trained there; not imported here
    return [str(torch.cuda.get_device_name(device))]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join((names[0] if names else platform.processor() or platform.machine()).split())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):  # not supported on this system
        return None

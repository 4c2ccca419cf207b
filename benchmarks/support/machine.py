"""Describe the machine, and report progress on stderr."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

CORES = os.cpu_count() or 1
VERSIONS = ("tagmill", "numpy", "onnxruntime", "torch", "pillow", "simplejpeg", "celery", "ray", "psycopg")


def machine() -> str:
    """Return processor, cores and versions in one line."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    packages = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return f"{model.partition(': ')[2]}, {CORES} cores; Python {platform.python_version()}, {packages}"


def tell(text: str) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)

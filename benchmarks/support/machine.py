"""Describe the machine, and report progress on stderr."""

import platform
import sys
from importlib.metadata import version

from tagmill.machine import cpu_name, usable_cores

CORES = usable_cores()
VERSIONS = ("tagmill", "numpy", "onnxruntime", "torch", "pillow", "simplejpeg", "celery", "ray", "psycopg")


def machine() -> str:
    """Return processor, cores and versions in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return f"{cpu_name()}, {CORES} cores; Python {platform.python_version()}, {packages}"


def tell(text: str) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)

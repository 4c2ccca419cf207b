"""Describe the machine, and report progress on stderr."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from tagmill.machine import cpu_name, usable_cores

CORES = usable_cores()
VERSIONS = ("tagmill", "numpy", "onnxruntime", "torch", "pillow", "simplejpeg", "celery", "daft", "ray", "psycopg")


def machine() -> str:
    """Return processor, cores, and the versions of the packages that are installed, in one line."""
    packages = ", ".join(filter(None, map(_named, VERSIONS)))
    return f"{cpu_name()}, {CORES} cores; Python {platform.python_version()}, {packages}"


def tell(text: str) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def _named(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""

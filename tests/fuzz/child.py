"""Decode and fit files from stdin (4 bytes of length, then the file), and answer each with one JSON line."""

import json
import resource
import struct
import sys

from tagmill.images.decode import decode
from tagmill.images.preprocess import Geometry, PreprocessSpec, fit
from tagmill.outcomes import ImageFailure

_SPECS = [PreprocessSpec(32, 48, geometry) for geometry in Geometry]


def _outcome(data: bytes) -> str:
    """Return "tagged", the code of an ImageFailure, or any other error."""
    try:
        image = decode(data, 64)
        for spec in _SPECS:
            if fit(image.rgb, spec).shape != (32, 48, 3):
                return "error: shape"
    except ImageFailure as failure:
        return failure.code.value
    except Exception as error:  # this is what fuzzing looks for
        return f"error: {type(error).__name__}: {error}"
    return "tagged"


def _memory() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """Answer files until stdin ends."""
    while header := sys.stdin.buffer.read(4):
        outcome = _outcome(sys.stdin.buffer.read(struct.unpack(">I", header)[0]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"outcome": outcome, "memory": _memory(), "peak": peak}), flush=True)


if __name__ == "__main__":
    main()

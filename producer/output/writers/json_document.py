"""Write JSON documents that hold a list of any length, element by element."""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO


def write_list(elements: Iterable[Any], out: BinaryIO) -> None:
    """Write the elements of a list, one per line, between its brackets."""
    out.write(b"[")
    separator = b"\n"
    for element in elements:
        out.write(separator + compact(element))
        separator = b",\n"
    out.write(b"\n]")


def compact(value: Any) -> bytes:
    """Return a value as JSON in ASCII on one line."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")

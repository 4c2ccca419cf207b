"""Read the metadata of an ONNX file, and refuse a file that stores tensors in another file.

OpenVINO would read such a file at any path, even an absolute one, and the sha256 of a bundle does not cover it. This
module walks the protobuf by https://protobuf.dev/programming-guides/encoding and the field numbers of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Weights are skipped, not read.
"""

# Not `onnx` 1.23.2: a worker does not install its 31 MB, and its import takes 208 ms and 19 MiB, this one 8 ms, 1 MiB.

import mmap
from collections.abc import Iterator
from pathlib import Path

from tagmill.errors import BundleError

#: message -> field number -> message in that field; fields that cannot hold a tensor are left out
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
#: fields of a tensor that is stored in another file: external_data, and data_location if not 0
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
#: field of a model with its pairs of key and value
_METADATA = 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: nested messages; deeper files are refused, because they would overflow the stack
_MAX_DEPTH = 200


def read_metadata(path: Path) -> dict[str, str]:
    """Return the `metadata_props`. Raises BundleError if this is no ONNX file, or has tensors in another file."""
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not _is_self_contained(data, 0, len(data), "model", 0):
                raise BundleError(f"{path}: its weights lie in another file; a bundle is one file: export it again")
            return _metadata(data)
    except ValueError as error:
        raise BundleError(
            f"{path}: it is no ONNX file ({error}); name an .onnx bundle, or copy this one again"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; name an .onnx bundle") from error


def _metadata(data: mmap.mmap) -> dict[str, str]:
    found = {}
    for number, kind, first, last in _fields(data, 0, len(data)):
        if number == _METADATA and kind == _BYTES:
            entry = {field: data[start:end].decode() for field, _, start, end in _fields(data, first, last)}
            found[entry.get(1, "")] = entry.get(2, "")
    return found


def _is_self_contained(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    for number, kind, first, last in _fields(data, start, end):
        if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and first != 0)):
            return False
        inner = _NESTED[message].get(number)
        if inner and kind == _BYTES and not _is_self_contained(data, first, last, inner, depth + 1):
            return False
    return True


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield field number, wire type, start and end of each field; for a varint its value and 0 instead."""
    offset = start
    while offset < end:
        key, offset = _varint(data, offset, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field has no number")
        if kind == _VARINT:
            value, offset = _varint(data, offset, end)
            yield number, kind, value, 0
            continue
        if kind == _BYTES:
            length, offset = _varint(data, offset, end)
        elif kind in {_FIXED64, _FIXED32}:
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field is of wire type {kind}")
        if length > end - offset:
            raise ValueError("it ends before its last field")
        yield number, kind, offset, offset + length
        offset += length


def _varint(data: mmap.mmap, offset: int, end: int) -> tuple[int, int]:
    """Return the number at `offset`, and the offset behind it."""
    value = shift = 0
    while True:
        if offset >= end or shift > 63:
            raise ValueError("a number does not end")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        shift += 7

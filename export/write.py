"""Write a graph as the file of a bundle."""

from pathlib import Path

import onnx

from tagmill.errors import BundleError, InputError
from tagmill.files import atomic_write
from worker.inference.session import Session


def check_destination(out: Path) -> None:
    """Raise InputError if no bundle can be written there."""
    if out.suffix != ".onnx":
        raise InputError(f"{out}: a bundle's name ends in .onnx")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name the file to write with -o, or remove the folder")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: is not a folder; create it or name another -o")


def write_checked(graph: onnx.ModelProto, metadata: dict[str, str], out: Path) -> None:
    """Write a bundle that a session has loaded; keep the old file until then."""
    with atomic_write(out) as temporary:
        write(graph, metadata, temporary)
        # `out` is replaced only by a file that the production session has opened and checked.
        Session(temporary, device="cpu")


def write(model: onnx.ModelProto, metadata: dict[str, str], path: Path) -> None:
    """Write a graph with its metadata. Raise BundleError if the disk is full or not writable."""
    onnx.helper.set_model_props(model, metadata)
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise BundleError(f"{path.parent}: {error.strerror or error}; name another -o") from error

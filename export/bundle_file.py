"""Write the bundle of a training run: graph, proof, metadata, one file."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.onnx_graph import OPSET, build_graph
from export.parity import Parity, compare
from tagmill.bundle import BundleSpec, Task
from tagmill.errors import BundleError, InputError
from tagmill.outcome import ImageFailure
from tagmill.preprocess import PreprocessSpec
from training.checkpoint import Checkpoint, load
from training.dataset import pictures_in, read_picture
from worker.session import Session

#: real pictures that torch and the bundle are compared on
SAMPLES = 200

#: the label of a segmenter that is not stored as a mask
BACKGROUND = "background"

TASKS = {"cnn": Task.CLASSIFY, "segment": Task.SEGMENT}


def export_bundle(
    run: Path, out: Path, name: str | None = None, samples: Path | None = None
) -> tuple[BundleSpec, Parity]:
    """Write `out` from the checkpoint of `run`, proven on real pictures; nothing is written where the proof fails."""
    checkpoint = load(run)
    if checkpoint.recipe not in TASKS:
        raise InputError(f"{run}: recipe {checkpoint.recipe!r} cannot be exported; known are {', '.join(TASKS)}")
    _check_destination(out)
    images = sample_pictures(checkpoint, samples)
    network = checkpoint.network()
    spec = describe(checkpoint, name or out.stem)
    model = build_graph(network, spec.task, len(spec.labels), spec.preprocess)
    partial = out.with_name(f".{out.name}.partial")
    try:
        _write(model, spec, partial)
        parity = compare(Session(partial, device="cpu"), network, images)
        parity.check()
        proven = replace(spec, provenance=spec.provenance | {"parity": asdict(parity)})
        _write(model, proven, partial)
        # The file that takes its place is one that the production session has opened.
        Session(partial, device="cpu")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return proven, parity


def describe(checkpoint: Checkpoint, name: str) -> BundleSpec:
    """Return what the bundle says of itself. Of folders only the last two names go into it."""
    task = TASKS[checkpoint.recipe]
    folders = {
        use: ["/".join(Path(folder).parts[-2:]) for folder in named] for use, named in checkpoint.data.items() if named
    }
    return BundleSpec(
        name=name,
        task=task,
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        background=BACKGROUND if task is Task.SEGMENT and BACKGROUND in checkpoint.labels else None,
        metrics=checkpoint.metrics,
        provenance={
            "recipe": checkpoint.recipe,
            "arch": str(checkpoint.arch),
            "epoch": checkpoint.epoch,
            "hyperparameters": checkpoint.hyperparameters,
            "data": folders,
            "trained_with": checkpoint.versions,
            "exported_with": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "opset": OPSET},
        },
    )


def sample_pictures(checkpoint: Checkpoint, samples: Path | None = None) -> NDArray[np.uint8]:
    """Return up to 200 pictures, uint8 [N, H, W, 3]: of `samples`, or of the run's test, validation or train folders.

    Raises InputError where there is none that can be read.
    """
    if samples is not None:
        return _read_some([samples], checkpoint.preprocess)
    for use in ("test", "validation", "train"):
        if folders := [Path(folder) for folder in checkpoint.data.get(use, []) if Path(folder).is_dir()]:
            return _read_some(folders, checkpoint.preprocess)
    named = ", ".join(folder for folders in checkpoint.data.values() for folder in folders)
    raise InputError(f"the pictures of this run are gone ({named}); name a folder of pictures with --samples")


def _read_some(folders: list[Path], spec: PreprocessSpec) -> NDArray[np.uint8]:
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: is not a folder; name a folder of pictures with --samples")
        inner = folder / "images" if (folder / "masks").is_dir() else folder
        pictures = pictures_in(inner)
        share = -(-SAMPLES // len(folders))
        # Evenly over the sorted names, so that every category takes part.
        found += (
            [pictures[index] for index in np.unique(np.linspace(0, len(pictures) - 1, share).astype(int))]
            if pictures
            else []
        )
    images = []
    for path in found:
        try:
            images.append(read_picture(path, spec))
        except ImageFailure:
            continue  # training named it; here the readable ones decide
    if not images:
        raise InputError(f"{folders[0]}: no readable picture to prove the bundle on; name a folder with --samples")
    return np.stack(images)


def _check_destination(out: Path) -> None:
    if out.suffix != ".onnx":
        raise InputError(f"{out}: a bundle's name ends in .onnx")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: is not a folder; create it or name another -o")


def _write(model: Any, spec: BundleSpec, path: Path) -> None:
    onnx.helper.set_model_props(model, spec.to_metadata())
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise BundleError(f"{path.parent}: {error.strerror or error}; name another -o") from error

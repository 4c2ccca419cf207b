"""Make the bundles of a benchmark: real networks with random weights, written by `export.build`."""

from pathlib import Path

import torch

from export.build import export_bundle
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.segment import SEGMENT
from training.checkpoint import Checkpoint, copied_state, save, versions
from training.models.build import build

#: name -> task, network, pixels per side, number of labels, options of the network
NETWORKS: dict[str, tuple[Task, str, int, int, dict[str, int]]] = {
    "mobilenet": (CLASSIFY, "mobilenet_v3_small", 224, 1000, {"head": 0}),
    "resnet50": (CLASSIFY, "resnet50", 224, 1000, {"head": 0}),
    "simple-cnn": (CLASSIFY, "simple-cnn", 32, 10, {}),
    "segmenter": (SEGMENT, "unet", 256, 21, {"shrink": 2}),
}


def make_bundle(name: str, folder: Path, images: Path, embedding: int = 0) -> Path:
    """Return the bundle of a network, and export it first if it does not exist.

    `images` is the folder of images that the export is checked on, `embedding` the width of its output of that name.
    """
    out = folder / f"{name}.onnx"
    if not out.exists():
        run = folder / f"{name}-run"
        run.mkdir(parents=True, exist_ok=True)
        save(untrained(out), run)
        top_k = 5 if NETWORKS[name][0] is CLASSIFY else 0
        export_bundle(run, out, samples=images, top_k=top_k, embedding=embedding)
    return out


def untrained(bundle: str | Path) -> Checkpoint:
    """Return the checkpoint that `make_bundle` exported to this path."""
    task, arch, size, labels, options = NETWORKS[Path(bundle).stem]
    torch.manual_seed(0)
    return Checkpoint(
        recipe="untrained",
        task=task,
        arch=arch,
        options=options,
        labels=("background", *(f"label {number}" for number in range(1, labels))),
        preprocess=PreprocessSpec(size, size),
        hyperparameters={"seed": 0},
        data={"train": [], "validation": [], "test": []},
        state=copied_state(build(arch, size, labels, **options)),
        versions=versions(),
    )

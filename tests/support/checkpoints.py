"""Real checkpoints of networks trained on small images, without figures and report; and trainings made short."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.cli.terminal.progress import Display
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.metrics import IGNORE
from tagmill.tasks.segment import SEGMENT
from training.annotations.folders import Folders
from training.checkpoint import Checkpoint, copied_state, save, versions
from training.data.arrays import Arrays
from training.data.classification import read_labeled
from training.data.segmentation import read_masked
from training.evaluation.predict import to_pixels
from training.loop.training import LoopConfig
from training.models.build import build
from training.models.classifiers import fit_to_pixels

#: training steps, each over all images
STEPS = 12


def write_classifier_run(run: Path, folders: Folders, arch: str = "simple-cnn", size: int = 32) -> Path:
    """Write the run of a classifier trained on a folder of images for each category."""
    spec = PreprocessSpec(size, size)
    data = read_labeled(folders, spec, 0, Display())
    return _write(run, folders, CLASSIFY, arch, data.labels, spec, data.train)


def write_segmenter_run(run: Path, folders: Folders, arch: str = "unet", size: int = 64) -> Path:
    """Write the run of a segmenter trained on images and masks."""
    spec = PreprocessSpec(size, size)
    data = read_masked(folders, spec, 0, Display())
    return _write(run, folders, SEGMENT, arch, data.labels, spec, data.train)


def _write(
    run: Path, folders: Folders, task: Task, arch: str, labels: tuple[str, ...], spec: PreprocessSpec, train: Arrays
) -> Path:
    torch.manual_seed(0)
    network = build(arch, spec.width, len(labels))
    pixels, targets = to_pixels(train.pixels), torch.from_numpy(train.targets.astype(np.int64))
    fit_to_pixels(network, pixels)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(STEPS):
        logits = network(pixels)
        if targets.ndim == 3:  # a unet in training mode returns coarse logits
            stride = targets.shape[1] // logits.shape[2]
            targets = targets[:, ::stride, ::stride]
        loss = F.cross_entropy(logits, targets, ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mkdir(parents=True)
    checkpoint = Checkpoint(
        recipe="segment" if task is SEGMENT else "cnn",
        task=task,
        arch=arch,
        labels=labels,
        preprocess=spec,
        hyperparameters={"seed": 0},
        data=folders.to_dict(),
        state=copied_state(network),
        epoch=STEPS,
        temperature=1.0 if task is SEGMENT else 1.5,
        versions=versions(),
    )
    save(checkpoint, run)
    return run


Hyper = TypeVar("Hyper")


class InterruptAt(Display):
    """A display that raises KeyboardInterrupt at the first line with a given start, e.g. "epoch 2/"."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def say(self, line: str) -> None:
        if line.startswith(self.start):
            raise KeyboardInterrupt


def short(hyper: Hyper, **values: object) -> Hyper:
    """Return hyperparameters with some values changed, those of their loop included."""
    loop_fields = {field.name for field in fields(LoopConfig)}
    loop = replace(hyper.loop, **{name: values.pop(name) for name in list(values) if name in loop_fields})  # type: ignore[attr-defined]
    return replace(hyper, loop=loop, **values)  # type: ignore[type-var,call-overload]

"""Synthetic labeled sets and predictions, for tests of training reports."""

from pathlib import Path
from typing import Any

import numpy as np

from tagmill.tasks.base import Task
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT
from training.annotations.types import Example
from training.data.arrays import Arrays, LabeledSet
from training.report.analysis import Shown

SIDE = 12


def labeled_set(task: Task, labels: tuple[str, ...], *, test: int | None = 24, train: int = 40) -> LabeledSet:
    """Return noise images with labels in turn. `test` is the number of test images, or None for no test set."""
    held = max(6, len(labels) // 50)
    return LabeledSet(
        labels,
        _arrays(task, len(labels), train, "train", 0),
        _arrays(task, len(labels), held, "validation", 1),
        None if test is None else _arrays(task, len(labels), test, "test", 2),
        (),
    )


def shown(task: Task, data: LabeledSet, wrong: float = 0.3) -> Shown:
    """Return predictions for the test or validation images, of which the share `wrong` is wrong."""
    random = np.random.default_rng(5)
    arrays = data.test or data.validation
    use = "test" if data.test else "validation"
    if task is SEGMENT:
        masks = np.where(arrays.targets == 255, 0, arrays.targets).astype(np.uint8)
        moved = random.random(masks.shape) < wrong
        masks[moved] = (masks[moved] + 1) % len(data.labels)
        return Shown(use, arrays, None, None, masks)
    logits = random.normal(size=(len(arrays), len(data.labels)))
    truth = arrays.targets if task is MULTILABEL else np.eye(len(data.labels))[arrays.targets]
    right = random.random((len(arrays), 1)) >= wrong
    logits += truth * right * 6
    return Shown(use, arrays, _scores(task, logits / 1.5), _scores(task, logits), None)


def summary_of(task: Task, data: LabeledSet, epochs: int = 3) -> dict[str, Any]:
    """Return the summary of a run, as `training.recipes.finish` makes it."""
    metric = {CLASSIFY: "accuracy", MULTILABEL: "mean_ap", SEGMENT: "mean_iou"}[task]
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    history = [
        {"epoch": n, "loss": 1 / n, metric: 1 - 1 / (n + 1), f"validation_{metric}": 1 - 1 / (n + 2), "lr": 0.01 / n}
        for n in range(1, epochs + 1)
    ]
    return {
        "recipe": "cnn",
        "task": str(task),
        "arch": "seed",
        "command": "tagmill train cnn --data photos/train --out runs/x",
        "seconds": 12.5,
        "epoch": epochs,
        "parameters": 122_570,
        "labels": data.labels,
        "pictures": {use: len(part) if part else 0 for use, part in parts.items()},
        "unreadable": sum(len(part.unreadable) for part in parts.values() if part),
        "duplicates": len(data.duplicates),
        "data": {use: [f"photos/{use}"] if part else [] for use, part in parts.items()},
        "temperature": 1.5,
        "thresholds": {},
        "device": "cpu",
        "seed": 0,
        "hyperparameters": {"loop": {"epochs": epochs, "seed": 0}, "size": SIDE, "augmentation": None},
        "versions": {"tagmill": "0.1.0", "torch": "2.15.0"},
        "history": history,
    }


def _arrays(task: Task, labels: int, count: int, use: str, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    targets: Any = np.arange(count, dtype=np.int64) % labels
    if task is MULTILABEL:
        targets = ((np.arange(labels) - targets[:, None]) % labels < 2).astype(np.uint8)
    elif task is SEGMENT:
        targets = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
        targets[:, 3:9, 3:9] = (np.arange(count) % labels)[:, None, None]
        targets[:, 0] = 255
    examples = [Example(Path(f"/photos/{use}/{number}.jpg"), "x") for number in range(count)]
    return Arrays(pixels, targets, np.zeros(count, dtype=np.int64), examples, [])


def _scores(task: Task, logits: Any) -> Any:
    if task is MULTILABEL:
        return (1 / (1 + np.exp(3 - logits))).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

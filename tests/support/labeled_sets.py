"""Synthetic labeled sets with synthetic predictions, for tests of training reports."""

from pathlib import Path
from typing import Any

import numpy as np

from tagmill.tasks.base import Task
from training.annotations.types import Example
from training.data.arrays import Arrays, LabeledSet
from training.report.analysis import Evaluation

SIDE = 12


def labeled_set(task: Task, labels: tuple[str, ...], *, test: int | None = 24, train: int = 40) -> LabeledSet:
    """Return images of noise with the labels in turn. `test` is the number of test images, or None for no test set."""
    held = max(6, len(labels) // 50)
    return LabeledSet(
        labels,
        _arrays(task, len(labels), train, "train", 0),
        _arrays(task, len(labels), held, "validation", 1),
        None if test is None else _arrays(task, len(labels), test, "test", 2),
        (),
    )


def evaluation_of(task: Task, data: LabeledSet, wrong: float = 0.3) -> Evaluation:
    """Return predictions for the test images, else for the validation images; the share `wrong` of them is wrong."""
    random = np.random.default_rng(5)
    arrays = data.test or data.validation
    use = "test" if data.test else "validation"
    if task.gives_masks:
        masks = np.where(arrays.targets == 255, 0, arrays.targets).astype(np.uint8)
        changed = random.random(masks.shape) < wrong
        masks[changed] = (masks[changed] + 1) % len(data.labels)
        return Evaluation(use, arrays, None, None, masks)
    logits = random.normal(size=(len(arrays), len(data.labels)))
    truth = arrays.targets if task.multilabel else np.eye(len(data.labels))[arrays.targets]
    right = random.random((len(arrays), 1)) >= wrong
    logits += truth * right * 6
    return Evaluation(use, arrays, _scores(task, logits / 1.5), _scores(task, logits), None)


def summary_of(task: Task, data: LabeledSet, epochs: int = 3) -> dict[str, Any]:
    """Return the summary of a training, as `training.recipes.finish` writes it."""
    metric = task.headline
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    history = [
        {"epoch": n, "loss": 1 / n, metric: 1 - 1 / (n + 1), f"validation_{metric}": 1 - 1 / (n + 2), "lr": 0.01 / n}
        for n in range(1, epochs + 1)
    ]
    return {
        "recipe": "cnn",
        "task": str(task),
        "arch": "simple-cnn",
        "command": "tagmill train cnn --data photos/train --out runs/x",
        "seconds": 12.5,
        "epoch": epochs,
        "parameters": 122_570,
        "labels": data.labels,
        "split_sizes": {use: len(arrays) if arrays else 0 for use, arrays in splits.items()},
        "unreadable": sum(len(arrays.unreadable) for arrays in splits.values() if arrays),
        "duplicates": len(data.duplicates),
        "data": {use: [f"photos/{use}"] if arrays else [] for use, arrays in splits.items()},
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
    if task.multilabel:
        targets = ((np.arange(labels) - targets[:, None]) % labels < 2).astype(np.uint8)
    elif task.gives_masks:
        targets = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
        targets[:, 3:9, 3:9] = (np.arange(count) % labels)[:, None, None]
        targets[:, 0] = 255
    examples = [Example(Path(f"/photos/{use}/{number}.jpg"), "x") for number in range(count)]
    return Arrays(pixels, targets, np.zeros(count, dtype=np.int64), examples, [])


def _scores(task: Task, logits: Any) -> Any:
    if task.multilabel:
        return (1 / (1 + np.exp(3 - logits))).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

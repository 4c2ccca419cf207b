"""The end of every recipe: calibrate on the validation images, measure on the test images, save and report."""

import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.base import Prediction, Task
from tagmill.tasks.metrics import calibration_error, rounded
from tagmill.text import legible
from training.annotations.folders import Folders, short_names
from training.checkpoint import STATE, Checkpoint, save
from training.data.arrays import Arrays, LabeledSet
from training.evaluation.calibration import fit_temperature, probabilities, suggest_thresholds
from training.report.write import Evaluation, write_report

#: from uint8 [N, H, W, 3] to logits float32 [N, labels]
Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
#: from uint8 [N, H, W, 3] to the label of each pixel, uint8 [N, H, W]
Masks = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
#: from images to the logits of some of their pixels, float32 [P, labels], and the true labels, int64 [P]
SampledPixels = Callable[[Arrays], tuple[NDArray[np.float32], NDArray[np.int64]]]


@dataclass(frozen=True)
class TrainingCost:
    """What a training took, and how it went."""

    #: seconds of training, validation included, without reading the images and the final measurement
    seconds: float
    #: number of values that were learned
    parameters: int
    device: str
    #: metrics of each epoch
    history: Sequence[dict[str, float]] = ()


def finish_classifier(
    checkpoint: Checkpoint, logits: Logits, data: LabeledSet, folders: Folders, cost: TrainingCost, run: Path
) -> dict[str, Any]:
    """Fit temperature and thresholds on validation, measure on test, write the run folder; return the metrics."""
    task, labels = checkpoint.task, data.labels
    validation_logits = logits(data.validation.pixels)
    temperature = fit_temperature(validation_logits, data.validation.targets)
    calibrated = probabilities(validation_logits, temperature, task.multilabel)
    thresholds = suggest_thresholds(calibrated, data.validation.targets, labels)
    checkpoint = replace(checkpoint, temperature=temperature, thresholds=thresholds)

    figures = _validation(_figures(task, Prediction(calibrated), data.validation, labels))
    measured = data.test or data.validation
    raw = logits(measured.pixels) if data.test else validation_logits
    scores, uncalibrated = probabilities(raw, temperature, task.multilabel), probabilities(raw, 1.0, task.multilabel)
    if data.test:
        figures |= _figures(task, Prediction(scores), data.test, labels)
        figures["ece_uncalibrated"] = rounded(calibration_error(uncalibrated, data.test.targets))
        figures |= _by_folder(folders.test, task, Prediction(scores), data.test, labels)
    evaluation = Evaluation("test" if data.test else "validation", measured, scores, uncalibrated, None)
    return _write(replace(checkpoint, metrics=checkpoint.metrics | figures), data, cost, run, evaluation)


def finish_segmenter(
    checkpoint: Checkpoint,
    masks: Masks,
    pixels: SampledPixels,
    data: LabeledSet,
    folders: Folders,
    cost: TrainingCost,
    run: Path,
) -> dict[str, Any]:
    """Fit the temperature on validation, measure on test, write the run folder; return the metrics."""
    task, labels = checkpoint.task, data.labels
    temperature = fit_temperature(*pixels(data.validation))
    checkpoint = replace(checkpoint, temperature=temperature)
    measured = data.test or data.validation
    predicted = masks(measured.pixels)
    # Without scores: a mask is measured by its pixels.
    prediction = Prediction(np.empty((len(predicted), len(labels)), dtype=np.float32), predicted)
    figures = _figures(task, prediction, measured, labels) | _pixel_calibration(*pixels(measured), temperature)
    if data.test:
        figures |= _by_folder(folders.test, task, prediction, data.test, labels)
    else:
        figures = _validation(figures)
    evaluation = Evaluation("test" if data.test else "validation", measured, None, None, predicted)
    return _write(replace(checkpoint, metrics=checkpoint.metrics | figures), data, cost, run, evaluation)


def _pixel_calibration(logits: NDArray[np.float32], true: NDArray[np.int64], temperature: float) -> dict[str, float]:
    """Return the calibration error of the pixels' scores, with the temperature and without."""
    scores = {"pixel_ece": temperature, "pixel_ece_uncalibrated": 1.0}
    return {name: rounded(calibration_error(probabilities(logits, divisor), true)) for name, divisor in scores.items()}


def _write(
    checkpoint: Checkpoint, data: LabeledSet, cost: TrainingCost, run: Path, evaluation: Evaluation
) -> dict[str, Any]:
    save(checkpoint, run)
    uses = {"train": data.train, "validation": data.validation, "test": data.test}
    summary = {
        **checkpoint.metrics,
        "recipe": checkpoint.recipe,
        "task": str(checkpoint.task),
        "arch": checkpoint.arch,
        "command": legible(shlex.join(["tagmill", *sys.argv[1:]])),
        "seconds": round(cost.seconds, 1),
        "epoch": checkpoint.epoch,
        "parameters": cost.parameters,
        "labels": data.labels,
        "split_sizes": {use: len(arrays) if arrays else 0 for use, arrays in uses.items()},
        "unreadable": sum(len(arrays.unreadable) for arrays in uses.values() if arrays),
        "duplicates": len(data.duplicates),
        "data": {use: short_names([Path(name) for name in names]) for use, names in checkpoint.data.items()},
        "temperature": checkpoint.temperature,
        "thresholds": checkpoint.thresholds,
        "device": cost.device,
        "seed": checkpoint.seed,
        "hyperparameters": checkpoint.hyperparameters,
        "versions": checkpoint.versions,
        "history": list(cost.history),
    }
    write_report(run, summary, data, evaluation)
    (run / STATE).unlink(missing_ok=True)
    return summary


def _figures(task: Task, prediction: Prediction, arrays: Arrays, labels: Sequence[str]) -> dict[str, Any]:
    return dict(task.measure(prediction, arrays.targets, labels).figures)


def _validation(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that are single numbers, named validation_*."""
    return {f"validation_{name}": value for name, value in figures.items() if not isinstance(value, dict)}


def _by_folder(
    folders: Sequence[Path], task: Task, prediction: Prediction, arrays: Arrays, labels: Sequence[str]
) -> dict[str, Any]:
    """Return {"folders": figures that are single numbers, by folder}; nothing if there is only one folder."""
    if len(folders) < 2:
        return {}
    by_folder = {}
    for source, name in enumerate(short_names(folders)):
        inside = np.flatnonzero(arrays.sources == source)
        figures = task.measure(prediction.at(inside), arrays.targets[inside], labels).figures
        by_folder[name] = {
            key: value for key, value in figures.items() if isinstance(value, int | float) and math.isfinite(value)
        }
    return {"folders": by_folder}

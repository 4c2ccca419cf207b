"""The end of every recipe: calibrate on what was held out, measure on the test images, keep and report."""

import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.figures import calibration_error, classification, mask_confusion, multilabel, rounded, segmentation
from tagmill.text import legible
from training.annotations.folders import Folders, short_names
from training.checkpoint import STATE, Checkpoint, save
from training.data.arrays import Arrays, LabeledSet
from training.evaluation.calibration import fit_temperature, probabilities, suggest_thresholds
from training.report.write import Evaluation, write_report

#: from uint8 [N, H, W, 3] to logits float32 [N, labels]
Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
#: from uint8 [N, H, W, 3] to a label for each pixel, uint8 [N, H, W]
Masks = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class TrainingCost:
    """What a training took."""

    #: seconds of training, without reading and measuring
    seconds: float
    #: values that were learned
    parameters: int
    device: str
    #: figures of each epoch
    history: Sequence[dict[str, float]] = ()


def conclude_classifier(
    checkpoint: Checkpoint, logits: Logits, data: LabeledSet, folders: Folders, effort: TrainingCost, run: Path
) -> dict[str, Any]:
    """Fit temperature and thresholds on validation, measure on test, write the run folder; return the metrics."""
    several = checkpoint.task.multilabel
    held = logits(data.validation.pixels)
    temperature = fit_temperature(held, data.validation.targets)
    calibrated = probabilities(held, temperature, several)
    thresholds = suggest_thresholds(calibrated, data.validation.targets, data.labels)
    checkpoint = replace(checkpoint, temperature=temperature, thresholds=thresholds)

    figures = _validation(_classifier_figures(calibrated, data.validation, data.labels, several))
    shown = data.test or data.validation
    raw = logits(shown.pixels) if data.test else held
    scores, uncalibrated = probabilities(raw, temperature, several), probabilities(raw, 1.0, several)
    if data.test:
        figures |= _classifier_figures(scores, data.test, data.labels, several)
        figures["ece_uncalibrated"] = rounded(calibration_error(uncalibrated, data.test.targets))
        parts = _by_folder(folders.test, data.test, lambda inside: _classifier_figures(
            scores[inside], data.test.select(np.flatnonzero(inside)), data.labels, several))  # type: ignore[union-attr]  # fmt: skip
        figures |= {"folders": parts} if parts else {}
    seen = Evaluation("test" if data.test else "validation", shown, scores, uncalibrated, None)
    return _write(replace(checkpoint, metrics=checkpoint.metrics | figures), data, effort, run, seen)


def conclude_segmenter(
    checkpoint: Checkpoint, masks: Masks, data: LabeledSet, folders: Folders, effort: TrainingCost, run: Path
) -> dict[str, Any]:
    """Measure on test, write the run folder; return the metrics."""
    labels = data.labels
    shown = data.test or data.validation
    predicted = masks(shown.pixels)
    figures = _segmenter_figures(predicted, shown, labels)
    if data.test:
        parts = _by_folder(folders.test, data.test, lambda inside: _segmenter_figures(
            predicted[inside], shown.select(np.flatnonzero(inside)), labels))  # fmt: skip
        figures |= {"folders": parts} if parts else {}
    else:
        figures = _validation(figures)
    seen = Evaluation("test" if data.test else "validation", shown, None, None, predicted)
    return _write(replace(checkpoint, metrics=checkpoint.metrics | figures), data, effort, run, seen)


def _write(
    checkpoint: Checkpoint, data: LabeledSet, effort: TrainingCost, run: Path, shown: Evaluation
) -> dict[str, Any]:
    save(checkpoint, run)
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    summary = {
        **checkpoint.metrics,
        "recipe": checkpoint.recipe,
        "task": str(checkpoint.task),
        "arch": checkpoint.arch,
        "command": legible(shlex.join(["tagmill", *sys.argv[1:]])),
        "seconds": round(effort.seconds, 1),
        "epoch": checkpoint.epoch,
        "parameters": effort.parameters,
        "labels": data.labels,
        "split_sizes": {use: len(arrays) if arrays else 0 for use, arrays in parts.items()},
        "unreadable": sum(len(arrays.unreadable) for arrays in parts.values() if arrays),
        "duplicates": len(data.duplicates),
        "data": {use: short_names([Path(name) for name in names]) for use, names in checkpoint.data.items()},
        "temperature": checkpoint.temperature,
        "thresholds": checkpoint.thresholds,
        "device": effort.device,
        "seed": checkpoint.hyperparameters.get("seed", checkpoint.hyperparameters.get("loop", {}).get("seed")),
        "hyperparameters": checkpoint.hyperparameters,
        "versions": checkpoint.versions,
        "history": list(effort.history),
    }
    write_report(run, summary, data, shown)
    (run / STATE).unlink(missing_ok=True)
    return summary


def _classifier_figures(
    scores: NDArray[np.float32], arrays: Arrays, labels: Sequence[str], several: bool
) -> dict[str, Any]:
    return multilabel(scores, arrays.targets, labels) if several else classification(scores, arrays.targets, labels)


def _segmenter_figures(predicted: NDArray[np.uint8], arrays: Arrays, labels: Sequence[str]) -> dict[str, Any]:
    return segmentation(mask_confusion(predicted, arrays.targets, len(labels)), labels, len(arrays))


def _validation(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the single figures, named as those of the held-out images."""
    return {f"validation_{name}": value for name, value in figures.items() if not isinstance(value, dict)}


def _by_folder(
    folders: Sequence[Path], arrays: Arrays, measure: Callable[[NDArray[np.bool_]], dict[str, Any]]
) -> dict[str, Any]:
    """Return the single figures for each folder where the images come from several."""
    if len(folders) < 2:
        return {}
    parts = {}
    for source, name in enumerate(short_names(folders)):
        figures = measure(arrays.sources == source)
        parts[name] = {
            key: value for key, value in figures.items() if isinstance(value, int | float) and math.isfinite(value)
        }
    return parts

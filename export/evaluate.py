"""Measure a bundle on labeled images through the production session, with no torch."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.bundles.spec import BundleSpec
from tagmill.cli.progress import Display
from tagmill.errors import ConfigurationError, InputError, NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.machine import usable_cores
from tagmill.outcomes import ImageFailure
from tagmill.tasks.figures import (
    calibration_error,
    classification,
    mask_confusion,
    multilabel,
    rounded,
    segmentation,
    uncalibrated,
)
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.text import legible
from training.annotations.types import Example
from training.data.arrays import Arrays
from training.data.decode import Step, label_targets, read_image, read_image_and_mask
from training.data.read import read_examples
from training.report.analysis import Evaluation, analyze
from worker.inference.session import Session

#: images of one inference call
BATCH = 16
#: calls whose images are decoded ahead
AHEAD = 4

Read = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read."""

    path: str
    reason: str


def evaluate(
    session: Session, data: Sequence[Path], display: Display | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Return the metrics of a bundle on labeled images, with failures and images_per_second.

    With a folder `out` the images stay in memory, and what the bundle says to them is drawn there. Raises InputError
    for labels that the bundle does not have, and NothingToDo where no image can be read.
    """
    display = display or Display()
    if out:
        _prepare(out)
    examples, tables = _labeled(session, data, display)
    failures: list[Failure] = []
    started = time.perf_counter()
    with display.reading("pictures", len(examples)) as step:
        batches = _decoded(examples, session.spec.preprocess, tables, failures, step)
        kept = Kept() if out else None
        metrics = _segments(session, batches, kept) if tables else _scores(session, batches, kept)
    seconds = time.perf_counter() - started
    if not metrics["images"]:
        raise NothingToDo(f"{data[0]}: none of {len(examples)} images could be read; the first: {failures[0].reason}")
    if out and kept:
        _draw(session.spec, kept.shown(), out)
    return {
        **metrics,
        "failures": [vars(failure) for failure in failures],
        "images_per_second": round(metrics["images"] / seconds, 1),
        "bundle": {"name": session.spec.name, "sha256": session.sha256, "provider": session.provider},
    }


@dataclass
class Kept:
    """Images that will be drawn, and what was said to them."""

    examples: list[Example] = field(default_factory=list)
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    targets: list[NDArray[Any]] = field(default_factory=list)
    masks: list[NDArray[np.uint8]] = field(default_factory=list)
    scores: NDArray[np.float32] | None = None
    uncalibrated: NDArray[np.float32] | None = None

    def shown(self) -> Evaluation:
        """Return all of it in arrays."""
        sources = np.array([example.source for example in self.examples])
        arrays = Arrays(np.concatenate(self.pixels), np.concatenate(self.targets), sources, self.examples, [])
        return Evaluation(
            "test", arrays, self.scores, self.uncalibrated, np.concatenate(self.masks) if self.masks else None
        )


def _prepare(out: Path) -> None:
    """Make the folder, and see that there is something to draw with, before anything is measured."""
    if find_spec("matplotlib") is None:
        raise ConfigurationError(
            "--out needs matplotlib, which is not installed; run: pip install 'tagmill[cpu,train]'"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; name another folder with --out") from error


def _draw(spec: BundleSpec, shown: Evaluation, out: Path) -> None:
    """Write the figures of what was answered into a folder."""
    from training.report.prediction_figures import draw_prediction_figures

    findings = analyze(spec.task, spec.labels, {shown.use: shown.arrays}, shown, spec.thresholds)
    draw_prediction_figures(out, spec.labels, shown, findings)


def _labeled(session: Session, data: Sequence[Path], display: Display) -> tuple[list[Example], list[NDArray[np.uint8]]]:
    """Return the images and, for a segmenter, what turns each source's mask values into its labels."""
    whose = f"a label of {session.path.name}, which has"
    return read_examples(session.spec.task, data, session.spec.labels, whose, display)


def _scores(session: Session, batches: Iterator[tuple[list[Example], list[Read]]], kept: Kept | None) -> dict[str, Any]:
    """Return the metrics of a classifier: calibrated as it is and, where it has a temperature, without that."""
    spec = session.spec
    found: list[NDArray[np.float32]] = []
    read: list[Example] = []
    for examples, pictures in batches:
        pixels = np.stack([pixels for pixels, _ in pictures])
        found.append(session.run(pixels).scores)
        read += examples
        if kept:
            kept.pixels.append(pixels)
    if not read:
        return {"images": 0}
    scores, targets = np.concatenate(found), label_targets(read, spec.labels)
    several = spec.task is MULTILABEL
    metrics = (multilabel if several else classification)(scores, targets, spec.labels)
    if spec.temperature != 1.0:
        before = uncalibrated(scores, spec.temperature, several)
        metrics["ece_uncalibrated"] = rounded(calibration_error(before, targets))
    if kept:
        kept.examples, kept.targets = read, [targets]
        kept.scores, kept.uncalibrated = scores, uncalibrated(scores, spec.temperature, several)
    return metrics


def _segments(
    session: Session, batches: Iterator[tuple[list[Example], list[Read]]], kept: Kept | None
) -> dict[str, Any]:
    labels = session.spec.labels
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    images = 0
    for examples, pictures in batches:
        pixels = np.stack([pixels for pixels, _ in pictures])
        predicted = session.run(pixels).mask
        true = np.stack([mask for _, mask in pictures if mask is not None])
        assert predicted is not None
        table += mask_confusion(predicted, true, len(labels))
        images += len(pictures)
        if kept:
            kept.examples += examples
            kept.pixels.append(pixels)
            kept.targets.append(true)
            kept.masks.append(predicted)
    return segmentation(table, labels, images)


def _decoded(
    examples: Sequence[Example],
    spec: PreprocessSpec,
    tables: Sequence[NDArray[np.uint8]],
    failures: list[Failure],
    step: Step,
) -> Iterator[tuple[list[Example], list[Read]]]:
    """Give batches of readable examples, decoded on all cores while the session works; note the others."""

    def read(example: Example) -> Read:
        if tables:
            return read_image_and_mask(example, spec, tables[example.source])
        return read_image(example.image, spec), None

    done = 0
    with ThreadPoolExecutor(usable_cores()) as pool:
        waiting: deque[tuple[Example, Future[Read]]] = deque()
        coming = iter(examples)
        good: list[Example] = []
        pictures: list[Read] = []
        while True:
            while len(waiting) < AHEAD * BATCH and (example := next(coming, None)) is not None:
                waiting.append((example, pool.submit(read, example)))
            if not waiting:
                break
            example, future = waiting.popleft()
            try:
                pictures.append(future.result())
                good.append(example)
            except ImageFailure as failure:
                failures.append(Failure(legible(str(example.image)), legible(str(failure))))
            done += 1
            step(done)
            if len(good) == BATCH:
                yield good, pictures
                good, pictures = [], []
    if good:
        yield good, pictures

"""Measure a bundle on labeled images through the session that workers use. Needs no torch."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.bundles.metadata import BundleSpec
from tagmill.cli.terminal.progress import Display
from tagmill.errors import ConfigurationError, InputError, NothingToDo
from tagmill.machine import usable_cores
from tagmill.outcomes import ImageFailure
from tagmill.tasks.base import Prediction
from tagmill.tasks.metrics import calibration_error, rounded, uncalibrated
from tagmill.text import legible
from training.annotations.types import Example
from training.data.arrays import Arrays
from training.data.decode import Step, label_targets, read_image, read_image_and_mask
from training.data.read import read_examples
from training.report.analysis import Evaluation, analyze
from worker.inference.session import Session

#: calls whose images are decoded ahead
CALLS_AHEAD = 4


@dataclass(frozen=True)
class Failure:
    """An image that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class DecodedExample:
    """A labeled image, uint8 [H, W, 3], with its mask, uint8 [H, W], if the bundle gives masks."""

    example: Example
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True)
class LabeledBatch:
    """The images of one inference call, uint8 [N, H, W, 3], with their targets as `Tally.add` takes them."""

    examples: list[Example]
    pixels: NDArray[np.uint8]
    targets: NDArray[Any]


@dataclass(frozen=True)
class LabeledImages:
    """The labeled images of all sources, and the function that decodes one of them for the bundle."""

    examples: list[Example]
    decode: Callable[[Example], DecodedExample]


def evaluate(
    session: Session,
    data: Sequence[Path],
    display: Display | None = None,
    out: Path | None = None,
    pool: Executor | None = None,
    each: Callable[[LabeledBatch, Prediction], None] | None = None,
) -> dict[str, Any]:
    """Return the figures of a bundle on labeled images, with failures and images_per_second.

    Images are decoded in `pool`, on all cores if None. `each` is told the predictions of each call.

    If `out` is given, keep the images in memory and draw figures of the predictions into that folder. Raise InputError
    for labels that the bundle does not have, and NothingToDo if no image can be read.
    """
    display = display or Display()
    if out:
        _prepare_folder(out)
    images = _labeled_images(session, data, display)
    failures: list[Failure] = []
    kept = KeptPredictions() if out else None
    tally = BundleTally(session.spec)
    started = time.perf_counter()
    workers = nullcontext(pool) if pool else ThreadPoolExecutor(usable_cores())
    with workers as decoders, display.reading("images", len(images.examples)) as step:
        decoded = _readable(images, decoders, CALLS_AHEAD * session.best_batch, failures, step)
        for batch in _batches(decoded, session.best_batch, session.spec):
            prediction = session.run(batch.pixels)
            tally.add(prediction, batch.targets)
            if each:
                each(batch, prediction)
            if kept:
                kept.add(batch, prediction)
    if len(failures) == len(images.examples):
        raise NothingToDo(f"{data[0]}: none of {len(failures)} images could be read; the first: {failures[0].reason}")
    figures = tally.figures()
    seconds = time.perf_counter() - started
    if out and kept:
        _draw(session.spec, kept.shown(session.spec), out)
    return {
        **figures,
        "failures": [vars(failure) for failure in failures],
        "images_per_second": round(figures["images"] / seconds, 1),
        "bundle": {"name": session.spec.name, "sha256": session.sha256, "provider": session.provider},
    }


class BundleTally:
    """The figures of a bundle: those of its task, and of calibrated scores the calibration error before."""

    def __init__(self, spec: BundleSpec) -> None:
        self._spec = spec
        self._tally = spec.task.tally(spec.labels)
        self._calibrated = spec.temperature != 1.0 and not spec.task.gives_masks
        self._uncalibrated: list[NDArray[np.float32]] = []
        self._targets: list[NDArray[Any]] = []

    def add(self, prediction: Prediction, targets: NDArray[Any]) -> None:
        """Add the predictions of some images, with their targets."""
        self._tally.add(prediction, targets)
        if self._calibrated:
            self._uncalibrated.append(_at_temperature_one(self._spec, prediction))
            self._targets.append(targets)

    def figures(self) -> dict[str, Any]:
        """Return the figures of all images added; at least one must have been."""
        figures = self._tally.measured().figures
        if "ece_by_chance" in figures:
            figures["ece_over_chance"] = rounded(figures["ece"] - figures["ece_by_chance"])
        if self._calibrated:
            error = calibration_error(np.concatenate(self._uncalibrated), np.concatenate(self._targets))
            figures["ece_uncalibrated"] = rounded(error)
        return figures


@dataclass
class KeptPredictions:
    """The images to draw, with the predictions for them."""

    batches: list[LabeledBatch] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)

    def add(self, batch: LabeledBatch, prediction: Prediction) -> None:
        """Keep the images of one call."""
        self.batches.append(batch)
        self.predictions.append(prediction)

    def shown(self, spec: BundleSpec) -> Evaluation:
        """Return all of them as arrays."""
        examples = [example for batch in self.batches for example in batch.examples]
        pixels = np.concatenate([batch.pixels for batch in self.batches])
        targets = np.concatenate([batch.targets for batch in self.batches])
        arrays = Arrays(pixels, targets, np.array([example.source for example in examples]), examples, [])
        prediction = Prediction.join(self.predictions)
        if spec.task.gives_masks:
            return Evaluation("test", arrays, None, None, prediction.mask)
        return Evaluation("test", arrays, prediction.scores, _at_temperature_one(spec, prediction), None)


def _at_temperature_one(spec: BundleSpec, prediction: Prediction) -> NDArray[np.float32]:
    return uncalibrated(prediction.scores, spec.temperature, spec.task.multilabel)


def _prepare_folder(out: Path) -> None:
    """Make the folder, and check that matplotlib is installed, before anything is measured."""
    if find_spec("matplotlib") is None:
        raise ConfigurationError(
            "--out needs matplotlib, which is not installed; run: pip install 'tagmill[cpu,train]'"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; name another folder with --out") from error


def _draw(spec: BundleSpec, shown: Evaluation, out: Path) -> None:
    """Write the figures of the predictions into a folder."""
    from training.report.prediction_figures import draw_prediction_figures

    findings = analyze(spec.task, spec.labels, {shown.use: shown.arrays}, shown, spec.thresholds)
    draw_prediction_figures(out, spec.labels, shown, findings)


def _labeled_images(session: Session, data: Sequence[Path], display: Display) -> LabeledImages:
    """Return the labeled images of all sources. Raise InputError for labels that the bundle does not have."""
    spec = session.spec
    whose = f"a label of {session.path.name}, which has"
    examples, tables = read_examples(spec.task, data, spec.labels, whose, display)

    def decoded(example: Example) -> DecodedExample:
        if tables:
            return DecodedExample(example, *read_image_and_mask(example, spec.preprocess, tables[example.source]))
        return DecodedExample(example, read_image(example.image, spec.preprocess), None)

    return LabeledImages(examples, decoded)


def _readable(
    images: LabeledImages, pool: Executor, ahead: int, failures: list[Failure], step: Step
) -> Iterator[DecodedExample]:
    """Yield the readable images in order; append the others to `failures`. `step` is told how many are done."""
    for done, (example, future) in enumerate(_decode_ahead(images, pool, ahead), start=1):
        try:
            decoded = future.result()
        except ImageFailure as failure:
            failures.append(Failure(legible(str(example.image)), legible(str(failure))))
            step(done)
        else:
            step(done)
            yield decoded


def _decode_ahead(
    images: LabeledImages, pool: Executor, ahead: int
) -> Iterator[tuple[Example, Future[DecodedExample]]]:
    """Yield every example with the result of decoding it, in order, while the next `ahead` are decoded."""
    waiting: deque[tuple[Example, Future[DecodedExample]]] = deque()
    for example in images.examples:
        waiting.append((example, pool.submit(images.decode, example)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def _batches(decoded: Iterable[DecodedExample], size: int, spec: BundleSpec) -> Iterator[LabeledBatch]:
    """Yield batches of `size` images, the last one smaller."""
    remaining = iter(decoded)
    while images := list(islice(remaining, size)):
        examples = [image.example for image in images]
        if spec.task.gives_masks:
            targets: NDArray[Any] = np.stack([image.mask for image in images if image.mask is not None])
        else:
            targets = label_targets(examples, spec.labels)
        yield LabeledBatch(examples, np.stack([image.pixels for image in images]), targets)

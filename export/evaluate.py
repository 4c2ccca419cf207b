"""Measure a bundle on labelled pictures through the production session, with no torch."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.bundle import Task
from tagmill.errors import InputError, NothingToDo
from tagmill.outcome import ImageFailure
from tagmill.preprocess import PreprocessSpec
from training.dataset import (
    Example,
    Step,
    categories,
    mask_labels,
    masked_pictures,
    read_mask,
    read_picture,
    translation,
)
from training.metrics import classification, confusion, segmentation
from worker.session import Session

#: pictures of one inference call
BATCH = 16
#: calls whose pictures are decoded ahead
AHEAD = 4

Read = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read."""

    path: str
    reason: str


def evaluate(session: Session, data: Sequence[Path], step: Step = lambda done: None) -> dict[str, Any]:
    """Return the metrics of a classifier or a segmenter on folders, with failures and images_per_second."""
    if session.spec.task is Task.CLASSIFY:
        examples, tables = _classified(session, data), []
    elif session.spec.task is Task.SEGMENT:
        examples = [example for source, folder in enumerate(data) for example in masked_pictures(folder, source)]
        tables = [translation(mask_labels(folder), session.spec.labels, folder) for folder in data]
    else:
        raise InputError(f"{session.path}: a {session.spec.task} bundle cannot be evaluated yet")
    failures: list[Failure] = []
    started = time.perf_counter()
    batches = _decoded(examples, session.spec.preprocess, tables, failures, step)
    metrics = _segments(session, batches) if tables else _classes(session, batches)
    seconds = time.perf_counter() - started
    if not metrics["images"]:
        raise NothingToDo(f"{data[0]}: none of {len(examples)} pictures could be read; the first: {failures[0].reason}")
    return {
        **metrics,
        "failures": [vars(failure) for failure in failures],
        "images_per_second": round(metrics["images"] / seconds, 1),
        "bundle": {"name": session.spec.name, "sha256": session.sha256, "provider": session.provider},
    }


def count(session: Session, data: Sequence[Path]) -> int:
    """Return how many pictures `evaluate` will read, for a progress bar."""
    if session.spec.task is Task.SEGMENT:
        return sum(len(masked_pictures(folder)) for folder in data)
    return len(_classified(session, data))


def _classified(session: Session, data: Sequence[Path]) -> list[Example]:
    found = []
    for source, folder in enumerate(data):
        for category, examples in categories(folder, source).items():
            if examples and category not in session.spec.labels:
                raise InputError(
                    f"{folder}: category {category} is not a label of {session.path.name}, "
                    f"which has: {', '.join(session.spec.labels)}"
                )
            found += examples
    return found


def _classes(session: Session, batches: Iterator[tuple[list[Example], list[Read]]]) -> dict[str, Any]:
    numbers = {label: number for number, label in enumerate(session.spec.labels)}
    scores = [np.empty((0, len(numbers)), dtype=np.float32)]
    targets: list[int] = []
    for examples, pictures in batches:
        scores.append(session.run(np.stack([pixels for pixels, _ in pictures])).scores)
        targets += [numbers[str(example.target)] for example in examples]
    return classification(np.concatenate(scores), np.array(targets, dtype=np.int64), session.spec.labels)


def _segments(session: Session, batches: Iterator[tuple[list[Example], list[Read]]]) -> dict[str, Any]:
    labels = session.spec.labels
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    images = 0
    for _, pictures in batches:
        predicted = session.run(np.stack([pixels for pixels, _ in pictures])).mask
        true = np.stack([mask for _, mask in pictures if mask is not None])
        assert predicted is not None
        table += confusion(predicted, true, len(labels))
        images += len(pictures)
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
        mask = read_mask(Path(example.target), spec, tables[example.source]) if tables else None
        return read_picture(example.picture, spec), mask

    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
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
                failures.append(Failure(str(example.picture), str(failure)))
            done += 1
            step(done)
            if len(good) == BATCH:
                yield good, pictures
                good, pictures = [], []
    if good:
        yield good, pictures

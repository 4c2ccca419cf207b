"""Finished runs whose labels, scores, sellers and embeddings a test chooses, in SQL as a worker writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from support.catalog import claim, waiting_batches
from support.ledger import QUEUE, digest
from tagmill.bundles.metadata import BundleSpec
from tagmill.extra import make_extra
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.base import Task
from tagmill.tasks.classify import CLASSIFY

LABELS = ("hat", "shoe", "bag", "unknown")


@dataclass(frozen=True)
class Tagged:
    """Some images of a run that are alike. Without labels a classifier failed on them."""

    count: int
    #: label -> score; of a classifier one
    labels: Mapping[str, float]
    seller: object = None
    #: of unit length
    embedding: tuple[float, ...] | None = None
    failed: bool = False


def classifier(engine: Engine, name: str = "kinds", task: Task = CLASSIFY) -> Model:
    """Register the next version of a model."""
    spec = BundleSpec(name, task, LABELS, PreprocessSpec(8, 8))
    return register(engine, spec, digest(f"{name} {np.random.default_rng().integers(2**62)}"))


def drifting_run(
    engine: Engine, models: Sequence[Model], images: Sequence[Tagged], *, batches: int | None = None
) -> int:
    """Add a run with these images, and let a worker finish its batches, or the first of them. Return its id."""
    every = [found for found in images for _ in range(found.count)]
    entries = [
        Entry(f"key-{number}", f"/shop/{number}.jpg", make_extra({"seller": found.seller}))
        for number, found in enumerate(every)
    ]
    run_id = create_run(engine, "test", entries, models, [Path("/shop")], 500, QUEUE)
    of_run = [batch_id for number, batch_id in waiting_batches(engine) if number == run_id]
    for batch_id in of_run[:batches]:
        claimed = claim(engine, run_id, batch_id)
        assert claimed is not None
        chosen = [(image.position, every[image.position]) for image in claimed.images]
        assert complete(engine, claimed, _result(run_id, chosen, models), "worker")
    return run_id


def _result(run_id: int, chosen: Sequence[tuple[int, Tagged]], models: Sequence[Model]) -> BatchResult:
    outcomes, facts, answers = [], [], []
    for position, found in chosen:
        if found.failed:
            outcomes.append(Outcome(position, error_code=ErrorCode.CORRUPT))
            continue
        sha256 = digest((run_id, position))
        outcomes.append(Outcome(position, sha256=sha256))
        facts.append(ImageRow(sha256, 8, 8, "JPEG", 100))
        answers += [_answer(sha256, found, model) for model in models]
    return BatchResult(outcomes, facts, answers)


def _answer(sha256: str, found: Tagged, model: Model) -> InferenceRow:
    labels = tuple(sorted(found.labels.items(), key=lambda one: -one[1]))
    masks: tuple[Mask, ...] = ()
    if model.task == "segment":
        masks = tuple(Mask(label, "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), score) for label, score in labels)
        labels = ()
    vector = None if found.embedding is None else np.array(found.embedding, np.float32)
    return InferenceRow(sha256, model.sha256, "CPU", labels, masks, vector)

"""A finished run over images on the disk, of which a test chooses what two versions of a model said."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sqlalchemy import Engine

from support.catalog import claim, waiting_batches
from support.ledger import QUEUE, digest
from tagmill.bundles.metadata import BundleSpec
from tagmill.extra import make_extra
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.base import Task
from tagmill.tasks.classify import CLASSIFY

LABELS = ("bag", "dress", "hat", "shoe")


@dataclass(frozen=True)
class Compared:
    """One image: what each version gave it, label -> score; of a classifier one label. None: it has no result."""

    key: str
    a: Mapping[str, float]
    b: Mapping[str, float] | None
    brand: object = None


def two_versions(engine: Engine, task: Task = CLASSIFY, name: str = "kinds") -> tuple[Model, Model]:
    """Register two versions of a model."""
    spec = BundleSpec(name, task, LABELS, PreprocessSpec(8, 8))
    first, second = (register(engine, spec, digest(f"{name} {number}")) for number in (1, 2))
    return first, second


def compared_run(engine: Engine, folder: Path, models: tuple[Model, Model], images: Sequence[Compared]) -> int:
    """Write images, and a run in which the versions gave these answers; return its id.

    The images that the second version has not seen are in a run of the first one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {found.key: folder / f"{number}.png" for number, found in enumerate(images)}
    for number, path in enumerate(paths.values()):
        Image.new("RGB", (48, 64), (number % 256, number * 7 % 256, 120)).save(path)
    both = [found for found in images if found.b is not None]
    if len(both) < len(images):
        _finished_run(engine, models[:1], [found for found in images if found.b is None], paths)
    return _finished_run(engine, models, both, paths)


def _finished_run(
    engine: Engine, models: Sequence[Model], images: Sequence[Compared], paths: Mapping[str, Path]
) -> int:
    entries = [Entry(found.key, str(paths[found.key]), make_extra({"brand": found.brand})) for found in images]
    folder = next(iter(paths.values())).parent
    run_id = create_run(engine, "test", entries, models, [folder], 500, QUEUE)
    for _, batch_id in waiting_batches(engine):
        claimed = claim(engine, run_id, batch_id)
        assert claimed is not None
        outcomes, facts, answers = [], [], []
        for image in claimed.images:
            found = images[image.position]
            content = paths[found.key].read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            outcomes.append(Outcome(image.position, sha256=sha256))
            facts.append(ImageRow(sha256, 48, 64, "PNG", len(content)))
            given = zip(models, (found.a, found.b), strict=False)
            answers += [_answer(sha256, model, labels) for model, labels in given if labels is not None]
        assert complete(engine, claimed, BatchResult(outcomes, facts, answers), "worker")
    return run_id


def _answer(sha256: str, model: Model, given: Mapping[str, float]) -> InferenceRow:
    labels = tuple(sorted(given.items(), key=lambda one: -one[1]))
    masks: tuple[Mask, ...] = ()
    if model.task == "segment":
        masks = tuple(Mask(label, "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), score) for label, score in labels)
        labels = ()
    return InferenceRow(sha256, model.sha256, "CPU", labels, masks)

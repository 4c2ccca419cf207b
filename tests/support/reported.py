"""A finished run over images on the disk, for tests of its report: in SQL as a worker writes it, without inference."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import Engine

from support.catalog import claim, waiting_batches
from support.ledger import QUEUE
from tagmill.bundles.metadata import BundleSpec
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.masks import encode_masks
from tagmill.tasks.segment import SEGMENT

KINDS = ("hat", "shoe", "</script><b>dress</b>")
PARTS = ("background", "cloth", "sole")
INPUT = PreprocessSpec(32, 32)
#: strongest at the right of the upper row
MAP = np.array([[0, 128, 255], [0, 0, 64]], dtype=np.uint8)


@dataclass(frozen=True)
class Reported:
    """One image of the run: its key, the best label with its score, and whether it has masks. No label: it failed."""

    key: str
    label: str | None
    score: float = 0.9
    masks: bool = True
    extra: str | None = None
    code: ErrorCode = ErrorCode.TRUNCATED
    detail: str = "cut off"


def models_of(engine: Engine) -> tuple[Model, Model]:
    """Register a classifier with thresholds and a segmenter."""
    kinds = BundleSpec("kinds", CLASSIFY, KINDS, INPUT, thresholds={"hat": 0.75}, activation_map=True)
    parts = BundleSpec("parts", SEGMENT, PARTS, INPUT, background="background")
    return register(engine, kinds, "1" * 64), register(engine, parts, "2" * 64)


def add_reported_run(engine: Engine, folder: Path, images: Sequence[Reported], batch_size: int = 500) -> int:
    """Write images of 48 x 64 pixels, and a run in which they have these outcomes; return its id."""
    models = models_of(engine)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for number, path in enumerate(paths):
        Image.new("RGB", (48, 64), (number % 256, number // 256, 120)).save(path)
    entries = [Entry(found.key, str(path), found.extra) for found, path in zip(images, paths, strict=True)]
    run_id = create_run(
        engine, f"{folder} https://me:secret@shop/list.csv", entries, models, [folder], batch_size, QUEUE
    )
    for _, batch_id in waiting_batches(engine):
        claimed = claim(engine, run_id, batch_id)
        assert claimed is not None
        chosen = [(found.position, images[found.position], paths[found.position]) for found in claimed.images]
        assert complete(engine, claimed, _result(chosen, models), "worker")
    return run_id


def _result(images: Sequence[tuple[int, Reported, Path]], models: Sequence[Model]) -> BatchResult:
    outcomes, facts, answers = [], [], []
    for position, found, path in images:
        if found.label is None:
            outcomes.append(Outcome(position, error_code=found.code, error_detail=found.detail))
            continue
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        outcomes.append(Outcome(position, sha256=sha256))
        facts.append(ImageRow(sha256, 48, 64, "PNG", path.stat().st_size))
        answers += _answers(sha256, found, models)
    return BatchResult(outcomes, facts, answers)


def _answers(sha256: str, found: Reported, models: Sequence[Model]) -> list[InferenceRow]:
    assert found.label is not None
    rest = [(label, (1 - found.score) / 4) for label in KINDS if label != found.label]
    masks: tuple = ()
    if found.masks:
        index = np.zeros((32, 32), dtype=np.uint8)
        index[4:20, 6:26], index[22:30, 8:24] = 1, 2
        masks = encode_masks(index, [0.0, 0.8, 0.6], PARTS, "background", INPUT, 48, 64)
    labels = ((found.label, found.score), *rest)
    return [
        InferenceRow(sha256, models[0].sha256, "CPU", labels, (), activation_map=MAP),
        InferenceRow(sha256, models[1].sha256, "CPU", (), masks),
    ]

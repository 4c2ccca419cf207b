"""Runs over catalogs of keys and bytes for tests, and an independent model of what the catalog views show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, select, text

from support.ledger import QUEUE, digest
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.schema import batch
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

#: image_key -> what stands for the image's bytes; None for an image that cannot be read
Contents = Mapping[str, str | None]
#: image_key, uri, run, sha256, model, version, label
Shown = tuple[str, str, int, str, str, int, str]


@dataclass
class CatalogRun:
    """A run, and what its images turned out to be."""

    id: int
    models: Sequence[Model]
    #: image_key -> bytes of the images that were tagged
    tagged: dict[str, str] = field(default_factory=dict)
    #: bytes that its models answered
    answered: set[str] = field(default_factory=set)


def new_version(engine: Engine, name: str) -> Model:
    """Register the next version of a model."""
    with engine.connect() as connection:
        models = connection.execute(text("SELECT count(*) FROM model")).scalar_one()
    spec = BundleSpec(name, CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
    return register(engine, spec, digest(f"model {models}"))


def submit(engine: Engine, models: Sequence[Model], keys: Iterable[str], batch_size: int = 1) -> CatalogRun:
    """Create a run over these keys."""
    entries = (Entry(key, f"/shop/{key}.jpg") for key in keys)
    return CatalogRun(create_run(engine, "test", entries, models, [Path("/shop")], batch_size, QUEUE), models)


def waiting_batches(engine: Engine, run: CatalogRun | None = None) -> list[tuple[int, int]]:
    """Return the (run id, batch id) of the queued batches, of one run or of all."""
    chosen = select(batch.c.run_id, batch.c.id).where(batch.c.status == "queued").order_by(batch.c.id)
    if run:
        chosen = chosen.where(batch.c.run_id == run.id)
    with engine.connect() as connection:
        return [(row.run_id, row.id) for row in connection.execute(chosen)]


def claim(engine: Engine, run_id: int, batch_id: int) -> Claim | None:
    """Claim a batch."""
    return leases.claim(engine, run_id, batch_id, QUEUE, Lease(f"worker:{batch_id}", 300.0, max_attempts=99))


def finish(engine: Engine, run: CatalogRun, claimed: Claim, contents: Contents) -> None:
    """Complete a claimed batch."""
    found = {image.position: contents[image.image_key] for image in claimed.images}
    outcomes = [
        Outcome(at, error_code=ErrorCode.CORRUPT) if words is None else Outcome(at, sha256=digest(words))
        for at, words in found.items()
    ]
    words = {one for one in found.values() if one is not None}
    facts = [ImageRow(digest(one), 8, 8, "JPEG", 100) for one in words]
    results = [
        InferenceRow(digest(one), model.sha256, "CPU", ((answer(one, model), 0.9), ("other", 0.1)), (mask(one, model),))
        for one in words
        for model in run.models
    ]
    assert complete(engine, claimed, BatchResult(outcomes, facts, results), "worker")
    run.answered |= words
    run.tagged |= {image.image_key: one for image in claimed.images if (one := found[image.position]) is not None}


def work(engine: Engine, run: CatalogRun, contents: Contents, batches: int | None = None) -> None:
    """Claim and complete the batches of a run that wait, or the first of them."""
    for run_id, batch_id in waiting_batches(engine, run)[:batches]:
        claimed = claim(engine, run_id, batch_id)
        assert claimed is not None
        finish(engine, run, claimed, contents)


def answer(words: str, model: Model) -> str:
    """Return the label that a model gives to these bytes."""
    return f"{words} by {model.title}"


def mask(words: str, model: Model) -> Mask:
    """Return the mask that a model gives to these bytes."""
    return Mask(answer(words, model), "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9)


def expected(runs: Iterable[CatalogRun], instead: Mapping[int, Model] | None = None) -> list[Shown]:
    """Return what the views must show: for each key and name of a model, the newest run that tagged the key.

    `instead` are the versions that are shown instead of others, by id, if the image has a result of them.
    """
    runs = list(runs)
    answered = {(words, model.id) for run in runs for words in run.answered for model in run.models}

    def version(run: CatalogRun, model: Model, words: str) -> Model:
        alone = sum(model.name == other.name for other in run.models) == 1
        other = (instead or {}).get(model.id, model)
        return other if alone and (words, other.id) in answered else model

    newest: dict[tuple[str, str], CatalogRun] = {}
    for run in sorted(runs, key=lambda found: found.id):
        newest |= {(key, model.name): run for key in run.tagged for model in run.models}
    rows = []
    for (key, name), run in newest.items():
        words = run.tagged[key]
        found = [version(run, model, words) for model in run.models if model.name == name]
        rows += [
            (key, f"/shop/{key}.jpg", run.id, digest(words), name, model.version, answer(words, model))
            for model in found
        ]
    return sorted(rows)


def shown(engine: Engine) -> list[Shown]:
    """Return what the views show; both, and the list of changes, must show the same."""
    columns = "image_key, uri, run_id, sha256, model, version, label"
    with engine.connect() as connection:
        labels = connection.execute(text(f"SELECT {columns} FROM catalog_labels WHERE rank = 1")).all()
        masks = connection.execute(text(f"SELECT {columns} FROM catalog_masks")).all()
        changes = connection.execute(text("SELECT image_key, run_id, model, version FROM catalog_changes")).all()
    found = sorted(tuple(row) for row in labels)
    assert sorted(tuple(row) for row in masks) == found
    assert sorted(tuple(row) for row in changes) == sorted((row[0], row[2], row[4], row[5]) for row in found)
    return found


def table(engine: Engine) -> list[tuple[object, ...]]:
    """Return all rows of `catalog_entry`."""
    columns = "image_key, name_id, place, run_id, position, image_id, model_id, changed_at"
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM catalog_entry")))


def changed_at(engine: Engine) -> dict[tuple[str, str, int], float]:
    """Return (image_key, model, version) -> when it began to be shown."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT image_key, model, version, changed_at FROM catalog_changes"))
        return {(row.image_key, row.model, row.version): row.changed_at for row in found}

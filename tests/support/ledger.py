"""Runs, claims and results for tests of the ledger."""

from hashlib import sha256
from pathlib import Path

from sqlalchemy import Engine, func, select

from tagmill.bundles.metadata import BundleSpec
from tagmill.db.schema import batch
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.runs.create import create_run
from tagmill.ledger.runs.publishing import take_unpublished
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

SHA = ["a" * 64, "b" * 64, "c" * 64]
QUEUE = "tagmill"


def digest(words: object) -> str:
    """Return a sha256 in hexadecimal digits that stands for some bytes."""
    return sha256(str(words).encode()).hexdigest()


def new_model(engine: Engine) -> Model:
    """Register a classifier."""
    return register(engine, BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "f" * 64)


def new_run(engine: Engine, model: Model, images: int = 3, batch_size: int = 3) -> int:
    """Create a run of /pictures/0.jpg, /pictures/1.jpg, ...; return its id."""
    entries = [Entry(f"key-{number}", f"/pictures/{number}.jpg") for number in range(images)]
    return create_run(engine, "test", entries, [model], [Path("/pictures")], batch_size, QUEUE)


def published_run(engine: Engine, model: Model, images: int = 3, batch_size: int = 3) -> int:
    """Create a run as `new_run` does, and mark its batches as published."""
    run_id = new_run(engine, model, images, batch_size)
    while take_unpublished(engine, run_id):
        pass
    return run_id


def batches(engine: Engine, run_id: int) -> list[int]:
    """Return the ids of the batches of a run, in their order."""
    with engine.connect() as connection:
        return list(
            connection.execute(select(batch.c.id).where(batch.c.run_id == run_id).order_by(batch.c.seq)).scalars()
        )


def take(engine: Engine, batch_id: int, token: str = "me", lease: float = 30.0) -> Claim | None:
    """Claim a batch, whose third attempt is its last."""
    with engine.connect() as connection:
        run_id = connection.execute(select(batch.c.run_id).where(batch.c.id == batch_id)).scalar_one()
    return leases.claim(engine, run_id, batch_id, QUEUE, Lease(token, lease, max_attempts=3))


def fail(engine: Engine, batch_id: int, token: str) -> None:
    """Claim a batch and release it as failed."""
    claimed = take(engine, batch_id, token)
    assert claimed is not None
    leases.release(engine, claimed, "BundleError: gone", delay_seconds=0)


def result_for(claimed: Claim, sha: str = SHA[0], answer: str = "red") -> BatchResult:
    """Return a result in which all images of the batch have the same bytes, with two labels and one mask."""
    masks = (Mask("red", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9),)
    return BatchResult(
        [Outcome(entry.position, sha256=sha) for entry in claimed.images],
        [ImageRow(sha, 8, 8, "JPEG", 100)],
        [InferenceRow(sha, claimed.models[0], "CPU", ((answer, 0.9), ("other", 0.1)), masks)],
    )


def count(engine: Engine, table: object) -> int:
    """Return the number of rows of a table."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()

"""Catalogs that were tagged several times, and what the views show of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from support.ledger import digest
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model

MASK = Mask("red", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9)


def tag(engine: Engine, models: Sequence[Model], catalog: dict[str, str]) -> int:
    """Tag a catalog, image_key -> bytes, in batches of two."""
    entries = [Entry(key, f"/pictures/{key}") for key in catalog]
    run = create_run(engine, "test", entries, models, [Path("/pictures")], 2, "tagmill")
    work(engine, run, catalog)
    return run


def work(engine: Engine, run: int, catalog: dict[str, str]) -> None:
    """Tag the batches of a run that wait, as a worker does; the bytes "broken" fail."""
    for batch in rows(engine, f"SELECT id FROM batch WHERE run_id = {run} AND status = 'queued' ORDER BY seq"):
        claimed = leases.claim(engine, run, batch[0], "tagmill", Lease(f"me-{batch[0]}", 30.0, 3))
        assert claimed is not None
        seen = {image.position: catalog[image.uri.removeprefix("/pictures/")] for image in claimed.images}
        good = sorted({digest(words) for words in seen.values() if words != "broken"})
        outcomes = [
            Outcome(at, error_code=ErrorCode.CORRUPT) if words == "broken" else Outcome(at, sha256=digest(words))
            for at, words in seen.items()
        ]
        inferences = [
            InferenceRow(one, model, "CPU", (("red", 0.9),), (MASK,)) for one in good for model in claimed.models
        ]
        result = BatchResult(outcomes, [ImageRow(one, 8, 8, "JPEG", 100) for one in good], inferences)
        assert complete(engine, claimed, result, "worker")


def rows(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def shown(engine: Engine) -> list[list[tuple[Any, ...]]]:
    """Return all rows of both views."""
    return [sorted(rows(engine, f"SELECT * FROM {view}")) for view in ("catalog_labels", "catalog_masks")]


def status(engine: Engine, run: int) -> dict[str, Any]:
    """Return what `tagmill run status` shows, without the time."""
    return {name: value for name, value in run_progress(engine, run).to_json().items() if name != "read_at"}

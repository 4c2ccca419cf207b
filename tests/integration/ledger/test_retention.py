"""The statement in docs/operations.md that deletes replaced entries deletes nothing that is still read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from support.ledger import digest

from producer.output.read.runs import read_results
from tagmill.bundles.metadata import BundleSpec
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger import leases
from tagmill.ledger.complete import complete
from tagmill.ledger.leases import Lease
from tagmill.ledger.runs.create import cancel_run, create_run, requeue_images
from tagmill.ledger.runs.progress import run_progress
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.segment import SEGMENT

ROOT = Path(__file__).parents[3]
MASK = Mask("red", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9)


def documented_statement() -> str:
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (statement,) = re.findall(r"```sql\n(DELETE FROM entry\n.*?)```", guide, flags=re.S)
    return str(statement)


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
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def shown(engine: Engine) -> list[list[tuple[Any, ...]]]:
    """Return all rows of both views."""
    return [sorted(rows(engine, f"SELECT * FROM {view}")) for view in ("catalog_labels", "catalog_masks")]


def status(engine: Engine, run: int) -> dict[str, Any]:
    return {name: value for name, value in run_progress(engine, run).to_json().items() if name != "read_at"}


def test_deleting_replaced_entries_changes_neither_views_nor_status(engine: Engine) -> None:
    spec = PreprocessSpec(8, 8)
    labels = register(engine, BundleSpec("labels", CLASSIFY, ("red",), spec), digest("labels"))
    masks = register(engine, BundleSpec("masks", SEGMENT, ("red",), spec), digest("masks"))
    catalog = {"a": "1", "b": "2", "c": "3", "delisted": "4", "e": "5", "f": "broken"}
    first = tag(engine, [labels, masks], catalog)  # the only run with masks
    second = tag(engine, [labels], catalog)
    third = tag(engine, [labels], {"a": "1", "b": "new", "c": "broken", "e": "5", "f": "6"})
    runs = (first, second, third)
    before, progress = shown(engine), [status(engine, run) for run in runs]

    with engine.begin() as connection:
        deleted = connection.execute(text(documented_statement())).rowcount

    assert deleted == 2
    assert shown(engine) == before
    assert [status(engine, run) for run in runs] == progress
    left = rows(engine, "SELECT run_id, image_key FROM run_image ORDER BY run_id, position")
    assert [key for run, key in left if run == first] == list(catalog)  # the views show their masks
    assert [key for run, key in left if run == second] == ["c", "delisted", "e", "f"]  # shown, or beside a failed one
    assert [key for run, key in left if run == third] == ["a", "b", "c", "e", "f"]
    for run, models in ((first, [labels, masks]), (second, [labels]), (third, [labels])):
        listed = [found.image_key for found in read_results(engine, run, models)]
        assert listed == [key for of, key in left if of == run]
    with engine.begin() as connection:
        assert connection.execute(text(documented_statement())).rowcount == 0


def test_images_without_a_result_are_kept_and_can_be_tagged_later(engine: Engine) -> None:
    labels = register(engine, BundleSpec("labels", CLASSIFY, ("red",), PreprocessSpec(8, 8)), digest("labels"))
    catalog = {"a": "1", "b": "2", "c": "3", "d": "broken"}
    failed = tag(engine, [labels], catalog)
    entries = [Entry(key, f"/pictures/{key}") for key in catalog]
    cancelled = create_run(engine, "test", entries, [labels], [Path("/pictures")], 2, "tagmill")
    cancel_run(engine, cancelled)
    newest = tag(engine, [labels], dict.fromkeys("abcd", "new"))

    with engine.begin() as connection:
        assert connection.execute(text(documented_statement())).rowcount == 2
    before = shown(engine)

    for run in (failed, cancelled):
        requeue_images(engine, run, [], "tagmill")
        work(engine, run, catalog | {"d": "4"})
        assert run_progress(engine, run).state == "done"
    assert [(row.image_key, row.status) for row in read_results(engine, failed, [labels])] == [
        ("c", "tagged"),
        ("d", "tagged"),
    ]
    assert (run_progress(engine, failed).tagged, run_progress(engine, cancelled).tagged) == (4, 4)
    assert {run for _, _, run, *_ in shown(engine)[0]} == {newest}
    assert shown(engine) == before

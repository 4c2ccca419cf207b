"""The results of a run, read in pages of any size: contiguous batches, and batches with gaps after retries."""

import random
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from support.catalog import CatalogRun, answer, claim, finish, new_version, submit, waiting_batches, work
from support.ledger import QUEUE, digest

from producer.output.read import pages as result_pages
from producer.output.read.runs import read_results
from tagmill.db.schema import batch
from tagmill.errors import NothingToDo
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.positions import positions_of, stored_positions
from tagmill.ledger.batches.reaper import mark_dead
from tagmill.ledger.runs import create as runs
from tagmill.ledger.runs.create import cancel_run, requeue_images
from tagmill.outcomes import ErrorCode
from tagmill.registry.models import Model

KEYS = [f"key-{number}" for number in range(23)]
#: images of a page: one, and fewer and more than a batch has
SIZES = (1, 3, 7)
#: how many images of a batch failed with a code: as it is counted, and as the failures are
COUNTS = (
    "SELECT batch_id, error_code, images FROM batch_failure ORDER BY 1, 2",
    "SELECT batch_id, error_code, count(*) FROM image_failure GROUP BY 1, 2 ORDER BY 1, 2",
)


@pytest.mark.parametrize("positions", [[0], [7], [3, 4, 5], [0, 2], [1, 2, 9], list(range(100))])
def test_only_positions_with_gaps_are_listed(positions: list[int]) -> None:
    stored = stored_positions(positions)
    whole = positions == list(range(positions[0], positions[-1] + 1))
    assert (stored["positions"] is None) == whole
    assert positions_of(type("Row", (), stored)) == positions


def batches_of(engine: Engine, run: CatalogRun) -> list[list[int]]:
    """Return the positions of each batch."""
    columns = (batch.c.positions, batch.c.first_position, batch.c.last_position)
    with engine.connect() as connection:
        found = connection.execute(select(*columns).where(batch.c.run_id == run.id).order_by(batch.c.seq)).all()
    return [positions_of(row) for row in found]


def test_retried_images_keep_their_positions(engine: Engine) -> None:
    run = submit(engine, [new_version(engine, "shirts")], KEYS[:10], batch_size=4)
    assert batches_of(engine, run) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    fails = {0, 3, 4, 9}
    work(engine, run, {key: None if at in fails else "1" for at, key in enumerate(KEYS)})
    assert requeue_images(engine, run.id, [], QUEUE) == 4
    assert batches_of(engine, run)[3:] == [[0, 3, 4, 9]]
    (waiting,) = waiting_batches(engine, run)
    claimed = claim(engine, *waiting)
    assert claimed is not None
    assert [(image.position, image.image_key, image.uri) for image in claimed.images] == [
        (at, f"key-{at}", f"/shop/key-{at}.jpg") for at in sorted(fails)
    ]
    finish(engine, run, claimed, dict.fromkeys(KEYS, "2"))
    found = [(row.position, row.sha256) for row in read_results(engine, run.id, run.models)]
    assert found == [(at, digest("2" if at in fails else "1")) for at in range(10)]


def pages(engine: Engine, run: CatalogRun, size: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Read the results in pages of this size."""
    with monkeypatch.context() as patch:
        patch.setattr(result_pages, "PAGE", size)
        return [asdict(row) for row in read_results(engine, run.id, run.models)]


def check(
    engine: Engine, run: CatalogRun, model: Model, failed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare every page size, the view and what is known of the images."""
    whole = pages(engine, run, 10_000, monkeypatch)
    assert [(row["position"], row["image_key"]) for row in whole] == list(enumerate(KEYS))
    for row in whole:
        key = row["image_key"]
        words = run.tagged.get(key)
        status = "tagged" if words else "failed" if key in failed else "pending"
        assert (row["status"], row["error_code"]) == (status, failed.get(key))
        assert row["sha256"] == (digest(words) if words else None)
        assert row["labels"] == ({model.name: [(answer(words, model), 0.9), ("other", 0.1)]} if words else {})
        assert (row["width"], len(row["masks"])) == ((8, 1) if words else (None, 0))
    for size in SIZES:
        assert pages(engine, run, size, monkeypatch) == whole
    columns = ("position", "image_key", "uri", "sha256", "status", "error_code", "error_detail")
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT {', '.join(columns)} FROM run_image ORDER BY position")).all()
    assert [tuple(row) for row in found] == [tuple(row[name] for name in columns) for row in whole]


@pytest.mark.parametrize("seed", range(2))
def test_any_page_size_gives_the_same_rows_while_batches_are_pending_and_after_retries(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    model = new_version(engine, "shirts")
    run = submit(engine, [model], KEYS, batch_size=rng.randint(1, 6))
    monkeypatch.setattr(runs, "TAKE_CHUNK", rng.randint(1, 9))
    monkeypatch.setattr(runs, "CANCELLED_CHUNK", rng.randint(1, 3))
    failed: dict[str, str] = {}
    for _ in range(6):
        waiting = waiting_batches(engine, run)
        for run_id, batch_id in rng.sample(waiting, rng.randint(0, len(waiting))):
            claimed = claim(engine, run_id, batch_id)
            assert claimed is not None
            keys = [image.image_key for image in claimed.images]
            if rng.random() < 0.2:
                leases.release(engine, claimed, "BundleError: gone", delay_seconds=-1.0)
                assert mark_dead(engine, QUEUE, max_attempts=0) == 1
                failed |= dict.fromkeys(keys, ErrorCode.BATCH_DEAD.value)
                continue
            contents = {key: rng.choice(["1", "2", None]) for key in keys}
            finish(engine, run, claimed, contents)
            failed |= {key: ErrorCode.CORRUPT.value for key, words in contents.items() if words is None}
        check(engine, run, model, failed, monkeypatch)
        if rng.random() < 0.3:
            cancel_run(engine, run.id)
        codes = rng.choice([[], [ErrorCode.CORRUPT], [ErrorCode.BATCH_DEAD]])
        try:
            requeue_images(engine, run.id, codes, QUEUE)
        except NothingToDo:
            continue
        failed = {key: code for key, code in failed.items() if codes and code not in codes}
        check(engine, run, model, failed, monkeypatch)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT sum(images) FROM batch")).scalar_one() == len(KEYS)
            counted, stored = (connection.execute(text(statement)).all() for statement in COUNTS)
            assert counted == stored


def test_a_retry_while_results_are_read_does_not_hide_what_it_tags(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(engine, [new_version(engine, "shirts")], KEYS, batch_size=5)
    fails = {"key-1", "key-20"}
    work(engine, run, {key: None if key in fails else "1" for key in KEYS})
    monkeypatch.setattr(result_pages, "PAGE", 4)
    reading = read_results(engine, run.id, run.models)
    first = next(reading)
    requeue_images(engine, run.id, [], QUEUE)
    work(engine, run, dict.fromkeys(KEYS, "2"))
    assert [first.status, *(row.status for row in reading)] == ["tagged", "failed", *["tagged"] * 21]

"""Entries that repeat the uri of an earlier one: their batches, their outcomes, and how they wait."""

from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from support.ledger import QUEUE, SHA, batches, result_for, take

from tagmill.db.schema import batch, repeated_entry
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.batches.positions import positions_of
from tagmill.ledger.catalog import rebuild
from tagmill.ledger.complete import complete
from tagmill.ledger.repeats.outcomes import first_outcomes
from tagmill.ledger.repeats.waiting import LONGEST_SECONDS, wait_for_firsts
from tagmill.ledger.runs.create import cancel_run, create_run, requeue_images
from tagmill.ledger.runs.progress import run_progress
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, Outcome
from tagmill.registry.models import Model

#: locations of the entries: 0, 2, 3 and 6 are the first ones
URIS = ["/a", "/a", "/b", "/c", "/a", "/c", "/d", "/b"]


@pytest.fixture
def run_id(engine: Engine, model: Model) -> int:
    """A run with repeats, in batches of three."""
    entries = [Entry(f"key-{number}", uri) for number, uri in enumerate(URIS)]
    return create_run(engine, "test", entries, [model], [Path("/")], 3, QUEUE)


def claim(engine: Engine, batch_id: int) -> Claim:
    """Claim a batch, also one that is not due yet."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE batch SET not_before = 0 WHERE not_before IS NOT NULL"))
    claimed = take(engine, batch_id)
    assert claimed is not None
    return claimed


def fail(engine: Engine, claimed: Claim, code: ErrorCode) -> None:
    outcomes = [Outcome(image.position, None, code, "gone") for image in claimed.images]
    assert complete(engine, claimed, BatchResult(outcomes, [], []), "me")


def take_over(engine: Engine, claimed: Claim) -> dict[int, Outcome]:
    """Complete a batch with the outcomes of the first entries, as a worker does; return them."""
    found = first_outcomes(engine, claimed.run_id, set(claimed.repeated.values()))
    outcomes = [
        Outcome(at, first.sha256, first.error_code, first.error_detail)
        for at, first in ((at, found[claimed.repeated[at]]) for at in claimed.repeated)
    ]
    assert complete(engine, claimed, BatchResult(outcomes, [], []), "me")
    return {outcome.position: outcome for outcome in outcomes}


def positions(engine: Engine, run_id: int) -> list[list[int]]:
    """Return the positions of the queued batches."""
    with engine.connect() as connection:
        queued = select(batch).where(batch.c.run_id == run_id, batch.c.status == "queued").order_by(batch.c.seq)
        return [positions_of(row) for row in connection.execute(queued)]


def test_repeated_entries_are_in_batches_of_their_own_behind_the_others(engine: Engine, run_id: int) -> None:
    assert positions(engine, run_id) == [[0, 2, 3], [6], [1, 4, 5], [7]]
    with engine.connect() as connection:
        rows = connection.execute(select(repeated_entry).order_by(repeated_entry.c.position)).all()
    assert [tuple(row) for row in rows] == [(run_id, 1, 0), (run_id, 4, 0), (run_id, 5, 3), (run_id, 7, 2)]
    claims = [claim(engine, batch_id) for batch_id in batches(engine, run_id)]
    assert [dict(claimed.repeated) for claimed in claims] == [{}, {}, {1: 0, 4: 0, 5: 3}, {7: 2}]
    assert run_progress(engine, run_id).images == 8


def test_repeated_entries_get_the_image_or_the_failure_of_the_first(engine: Engine, run_id: int) -> None:
    first, second, third, fourth = batches(engine, run_id)
    claimed = claim(engine, first)
    tagged = result_for(claimed)
    outcomes = [*tagged.outcomes[:2], Outcome(3, None, ErrorCode.NOT_FOUND, "gone")]
    assert complete(engine, claimed, BatchResult(outcomes, tagged.images, tagged.inferences), "me")
    fail(engine, claim(engine, second), ErrorCode.CORRUPT)
    assert take_over(engine, claim(engine, third)) == {
        1: Outcome(1, SHA[0]),
        4: Outcome(4, SHA[0]),
        5: Outcome(5, None, ErrorCode.NOT_FOUND, "gone"),
    }
    take_over(engine, claim(engine, fourth))
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.tagged, progress.inferences) == ("done", 5, 1)
    assert progress.failures == {"not_found": 2, "corrupt": 1}
    shown = "SELECT image_key, position FROM catalog_entry ORDER BY position"
    with engine.connect() as connection:
        before = connection.execute(text(shown)).all()
        # Only what others repeat is stored for them.
        stored = connection.execute(text("SELECT first_position FROM repeated_image ORDER BY 1")).scalars().all()
    assert [position for _, position in before] == [0, 1, 2, 4, 7]
    assert stored == [0, 2]
    rebuild(engine)
    with engine.connect() as connection:
        assert connection.execute(text(shown)).all() == before


def test_a_batch_waits_longer_each_time_and_loses_no_attempt(engine: Engine, run_id: int) -> None:
    _, _, third, _ = batches(engine, run_id)
    waited = []
    for number in range(12):
        claimed = claim(engine, third)
        assert (claimed.attempts, claimed.waits) == (1, number)
        assert first_outcomes(engine, run_id, {0, 3}) == {}
        wait_for_firsts(engine, claimed)
        assert leases.claim(engine, run_id, third, QUEUE, Lease("other", 30, 3)) is None
        with engine.connect() as connection:
            row = connection.execute(select(batch).where(batch.c.id == third)).one()
        assert (row.status, row.owner, row.attempts, row.error) == ("queued", None, 0, None)
        waited.append(row.not_before - row.started_at)
    assert all(after > before for before, after in pairwise(waited[:8]))
    assert LONGEST_SECONDS <= waited[-1] < LONGEST_SECONDS + 30


def test_a_retry_keeps_repeats_apart_and_gives_them_the_new_outcome(engine: Engine, run_id: int) -> None:
    first, second, third, fourth = batches(engine, run_id)
    for batch_id in (first, second):
        fail(engine, claim(engine, batch_id), ErrorCode.NOT_FOUND)
    for batch_id in (third, fourth):
        take_over(engine, claim(engine, batch_id))
    assert requeue_images(engine, run_id, [ErrorCode.NOT_FOUND], QUEUE) == 8
    assert positions(engine, run_id) == [[0, 2, 3], [6], [1, 4, 5], [7]]
    fresh = batches(engine, run_id)[4:]
    for batch_id in fresh[:2]:
        claimed = claim(engine, batch_id)
        assert complete(engine, claimed, result_for(claimed), "me")
    for batch_id in fresh[2:]:
        take_over(engine, claim(engine, batch_id))
    assert run_progress(engine, run_id).tagged == 8


def test_repeats_of_a_cancelled_run_wait_for_what_is_taken_again_with_them(engine: Engine, run_id: int) -> None:
    first, *_ = batches(engine, run_id)
    claimed = claim(engine, first)
    assert complete(engine, claimed, result_for(claimed), "me")
    assert cancel_run(engine, run_id) == 3
    assert requeue_images(engine, run_id, [], QUEUE) == 5
    assert positions(engine, run_id) == [[6], [1, 4, 5], [7]]
    claims = [claim(engine, batch_id) for batch_id in batches(engine, run_id)[4:]]
    assert complete(engine, claims[0], result_for(claims[0]), "me")
    for repeats in claims[1:]:
        take_over(engine, repeats)
    assert run_progress(engine, run_id).tagged == 8


def test_a_run_without_repeats_has_whole_batches_and_claims_without_a_further_look(
    engine: Engine, model: Model
) -> None:
    entries = [Entry(f"key-{number}", f"/{number}") for number in range(7)]
    run_id = create_run(engine, "test", entries, [model], [Path("/")], 3, QUEUE)
    with engine.connect() as connection:
        rows = connection.execute(select(batch.c.positions, batch.c.first_position, batch.c.last_position)).all()
    assert [tuple(row) for row in rows] == [(None, 0, 2), (None, 3, 5), (None, 6, 6)]
    claimed = claim(engine, batches(engine, run_id)[0])
    assert (claimed.has_repeats, dict(claimed.repeated)) == (False, {})

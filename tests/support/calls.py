"""Every call of the ledger on PostgreSQL, in the order of a run's life: to look at the statements that it makes."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psycopg
from sqlalchemy import Engine

from producer.output.read.catalog import read_catalog
from producer.output.read.runs import read_failures, read_results
from support.filled import FilledRun
from support.ledger import QUEUE, digest
from support.services import libpq_url
from tagmill.errors import NothingToDo
from tagmill.ledger import known_results
from tagmill.ledger.batches import leases, reaper
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.faults import runs as run_faults
from tagmill.ledger.faults import workers as faults
from tagmill.ledger.faults.workers import FaultReason
from tagmill.ledger.fleet.waiting import waits_since
from tagmill.ledger.repeats import outcomes, waiting
from tagmill.ledger.runs import control, progress, publishing
from tagmill.ledger.runs import create as runs
from tagmill.ledger.runs.rerun import Chooser, Rerun
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Mask, Outcome, SeenFile, SeenUrl
from tagmill.registry import models as registry
from tagmill.registry.models import Model
from tagmill.registry.rollout.production import promote

Call = Callable[[], object]


@dataclass(frozen=True)
class Catalog:
    """A database with a catalog, a small run over it, a small run that waits, and a long queue behind that."""

    engine: Engine
    model: Model
    tagged: FilledRun
    small: FilledRun
    waiting: FilledRun
    queued: FilledRun

    def execute(self, statement: str) -> None:
        with psycopg.connect(libpq_url(self.engine.url.render_as_string())) as connection:
            connection.execute(statement.encode())


def calls(catalog: Catalog) -> Iterator[tuple[str, Call]]:
    """Yield every call of the ledger, in the order of a run's life."""
    yield from submitting(catalog)
    for grace in (0.0, 1000.0):
        yield from look(catalog, f"some published, {grace:.0f} s", grace)
    catalog.execute(f"UPDATE batch SET published_at = extract(epoch FROM now()) WHERE run_id = {catalog.queued.id}")
    yield from look(catalog, "all published", 1000.0)
    yield from working(catalog)
    yield from look(catalog, "some claimed", 1000.0)
    yield from losing(catalog)
    yield from commanding(catalog)


def submitting(catalog: Catalog) -> Iterator[tuple[str, Call]]:
    engine, run_id = catalog.engine, catalog.queued.id
    entries = [Entry(f"new-{number}", f"/pictures/{number}.jpg") for number in range(130)]
    yield "create_run", lambda: runs.create_run(engine, "x", entries, [catalog.model], [Path("/pictures")], 64, QUEUE)
    yield "queue_of", lambda: publishing.queue_of(engine, run_id)
    yield "priority_of", lambda: publishing.priority_of(engine, run_id)
    yield "take_unpublished", lambda: publishing.take_unpublished(engine, run_id)
    yield "renew_publishing", lambda: publishing.renew_publishing(engine, run_id)
    yield "hold_publishing", lambda: publishing.hold_publishing(engine, run_id)
    yield "take_over_publishing", lambda: control.take_over_publishing(engine, run_id)
    yield "leave_publishing", lambda: publishing.leave_publishing(engine, run_id)


def look(catalog: Catalog, when: str, grace: float) -> Iterator[tuple[str, Call]]:
    """A look of the reaper, and what follows a loss of messages or a dead process."""
    engine, since = catalog.engine, time.time() - grace
    yield f"acquire_reaper_lock, {when}", lambda: reaper.acquire_reaper_lock(engine, QUEUE, 0.0)
    yield f"requeue_expired, {when}", lambda: reaper.requeue_expired(engine, QUEUE)
    yield f"requeue_owned, {when}", lambda: reaper.requeue_owned(engine, "host:none")
    yield f"mark_dead, {when}", lambda: reaper.mark_dead(engine, QUEUE, 3)
    yield f"reclaim_due, {when}", lambda: reaper.reclaim_due(engine, QUEUE, Priority.NORMAL)
    yield f"reclaim_retries, {when}", lambda: reaper.reclaim_retries(engine, QUEUE, Priority.NORMAL, grace)
    yield f"reclaim_lost, {when}", lambda: reaper.reclaim_lost(engine, QUEUE, Priority.NORMAL, grace)
    yield f"waits_since, {when}", lambda: waits_since(engine, QUEUE, grace)
    yield f"abandoned_runs, {when}", lambda: reaper.abandoned_runs(engine, QUEUE)
    for retries in (False, True):
        name = f"reclaim_published_between, {when}, {retries=}"
        yield (
            name,
            lambda only=retries: reaper.reclaim_published_between(
                engine, QUEUE, Priority.NORMAL, 0.0, since, retries=only
            ),
        )


def working(catalog: Catalog) -> Iterator[tuple[str, Call]]:
    """A worker's calls, for some of the batches behind the first thousand."""
    engine, model = catalog.engine, catalog.model
    claims: list[Claim] = []

    def claim(number: int) -> None:
        run_id, batch_id = catalog.queued.id, catalog.queued.first_batch + 500 + number
        found = leases.claim(engine, run_id, batch_id, QUEUE, Lease(f"host:{number}:token", 30.0, 3))
        assert found is not None
        claims.append(found)

    for number in range(7):
        yield f"claim {number}", lambda number=number: claim(number)
    yield "exists", lambda: leases.exists(engine, catalog.queued.id, claims[0].batch_id, QUEUE)
    yield "renew", lambda: leases.renew(engine, [found.token for found in claims], 30.0)
    yield "release", lambda: leases.release(engine, claims[6], "BundleError: gone", 0.0)
    yield "wait_for_firsts", lambda: waiting.wait_for_firsts(engine, claims[4])
    yield from repeating(catalog)
    yield from lacking(catalog, claims[5])
    yield "complete, new images", lambda: complete(engine, claims[0], result_of(claims[0]), "host:0")
    yield "complete, known images", lambda: complete(engine, claims[1], result_of(claims[1]), "host:0")
    yield "complete, lost batch", lambda: complete(engine, claims[0], result_of(claims[0]), "host:0")
    shas = [digest(number) for number in range(64)]
    files = [digest(sha)[:32] for sha in shas]
    yield "known_inferences", lambda: known_results.known_inferences(engine, shas, [model.sha256])
    yield "unchanged_files", lambda: known_results.unchanged_files(engine, files, [model.sha256])
    yield "known_urls", lambda: known_results.known_urls(engine, files, [model.sha256])


def repeating(catalog: Catalog) -> Iterator[tuple[str, Call]]:
    """What a worker asks for entries that repeat others, and stores for entries that are repeated."""
    engine, run_id = catalog.engine, catalog.tagged.id

    def call(function: Callable[..., object], *given: object) -> None:
        with engine.begin() as connection:
            function(connection, run_id, *given)

    yield "first_positions", lambda: call(outcomes.first_positions, range(1001, 1065))
    yield "first_outcomes", lambda: outcomes.first_outcomes(engine, run_id, range(1000, 1128, 2))
    catalog.execute(f"DELETE FROM repeated_image WHERE run_id = {run_id} AND first_position < 1000")
    yield "store_images", lambda: call(outcomes.store_images, dict.fromkeys(range(64), 1))


def lacking(catalog: Catalog, claimed: Claim) -> Iterator[tuple[str, Call]]:
    """What a worker calls that lacks a folder of the run, and one that has it after it was held."""
    engine, run_id = catalog.engine, catalog.queued.id
    fault = run_faults.RunFault(FaultReason.FOLDER, "is empty", run_id, run_faults.subject_of("/pictures"), "/0.jpg")
    yield "report_fault", lambda: faults.report_fault(engine, "host:1", QUEUE, fault)
    yield "report_run_fault", lambda: run_faults.report_run_fault(engine, fault, 600.0)
    catalog.execute("UPDATE run_fault SET since = 0, held_until = 4e9")
    yield "report_run_fault, held", lambda: run_faults.report_run_fault(engine, fault, 600.0)
    yield "give_back", lambda: leases.give_back(engine, claimed, "is empty", 4e9)
    yield "waiting_needs", lambda: run_faults.waiting_needs(engine, QUEUE)
    yield "run_faults", lambda: run_faults.run_faults(engine, QUEUE)
    yield "some_files", lambda: run_faults.some_files(engine, run_id, 16)
    yield "found_here", lambda: run_faults.found_here(engine, QUEUE, run_id, fault.subject)
    yield "clear_fault", lambda: faults.clear_fault(engine, "host:1")


def result_of(claimed: Claim) -> BatchResult:
    """Return a result with labels, further labels, masks and files, in which the last image failed."""
    shas = [digest(number) for number in range(len(claimed.images))]
    pairs = list(zip(claimed.images, shas, strict=True))
    labels = tuple((f"label_name {rank}", 1 - rank / 10) for rank in range(1, 8))
    masks = (Mask("label_name 1", "00", 8, 8, 0.25, (0.0, 0.0, 4.0, 4.0), 0.9),)
    last = Outcome(claimed.images[-1].position, error_code=ErrorCode.NOT_FOUND, error_detail="gone")
    return BatchResult(
        [*(Outcome(entry.position, sha256=sha) for entry, sha in pairs[:-1]), last],
        [ImageRow(sha, 8, 8, "JPEG", 100) for sha in shas[:-1]],
        [InferenceRow(sha, claimed.models[0], "CPU", labels, masks) for sha in shas[:-1]],
        [SeenFile(digest(sha)[:32], sha) for sha in shas[:-1]],
        [SeenUrl(digest(sha)[:32], sha, '"1"') for sha in shas[:-1]],
    )


def losing(catalog: Catalog) -> Iterator[tuple[str, Call]]:
    """Looks of the reaper that find something: expired leases, a batch without attempts left, lost messages."""
    first = catalog.queued.first_batch + 500
    catalog.execute(f"UPDATE batch SET lease_until = 1 WHERE id BETWEEN {first + 2} AND {first + 3}")
    yield "requeue_owned", lambda: reaper.requeue_owned(catalog.engine, "host:4")
    catalog.execute(f"UPDATE batch SET attempts = 9, not_before = 1 WHERE id = {first + 30}")
    yield from look(catalog, "some lost", 1000.0)
    catalog.execute(f"UPDATE batch SET published_at = published_at - 3600 WHERE run_id = {catalog.queued.id}")
    yield from look(catalog, "all overdue", 10.0)


def commanding(catalog: Catalog) -> Iterator[tuple[str, Call]]:
    """The commands, for small runs."""
    engine, small, waiting = catalog.engine, catalog.small.id, catalog.waiting.id
    model = catalog.model
    yield "run_progress", lambda: progress.run_progress(engine, small)
    yield "newest_run", lambda: progress.newest_run(engine, "embedded-1")
    yield "unfinished_run", lambda: progress.unfinished_run(engine, "embedded-1")
    yield "read_results", lambda: list(read_results(engine, small, [model]))
    yield "read_results, large run", lambda: list(islice(read_results(engine, catalog.tagged.id, [model]), 600))
    yield "read_failures", lambda: list(read_failures(engine, small))
    yield "read_failures, since", lambda: list(read_failures(engine, small, 1.0))
    names = {model.sha256: model.name}
    for since in (None, time.time() - 1000.0):
        name = f"read_catalog, {'all' if since is None else 'since'}"
        yield name, lambda since=since: list(islice(read_catalog(engine, [model], names, since), 600))
    yield "requeue_images by code", lambda: runs.requeue_images(engine, small, [ErrorCode.CORRUPT], QUEUE)
    yield "claim, positions", lambda: claim_last(catalog)
    yield "pause_run", lambda: control.pause_run(engine, waiting)
    yield "is_paused", lambda: control.is_paused(engine, waiting)
    yield "waiting_messages", lambda: control.waiting_messages(engine, waiting)
    yield "resume_run", lambda: control.resume_run(engine, waiting)
    yield "set_priority", lambda: control.set_priority(engine, waiting, Priority.URGENT)
    yield "cancel_run", lambda: runs.cancel_run(engine, waiting)
    yield "requeue_images, cancelled", lambda: runs.requeue_images(engine, waiting, [], QUEUE)
    again = [Entry(f"sku-{number:09d}", f"/pictures/{number}.jpg") for number in range(1, 65)]
    yield "rerun failed", lambda: choose(engine, Rerun.FAILED, model, again)
    yield "resolve", lambda: registry.resolve(engine, "shirts")
    yield "promote", lambda: promote(engine, "shirts@1")
    yield "list_models", lambda: registry.list_models(engine)
    yield "models_by_sha256", lambda: registry.models_by_sha256(engine, [model.sha256])


def choose(engine: Engine, which: Rerun, model: Model, entries: list[Entry]) -> None:
    """Choose the entries that are to be tagged again, of which there may be none."""
    with suppress(NothingToDo):
        list(Chooser(engine, which, [model]).choose(entries))


def claim_last(catalog: Catalog) -> None:
    """Claim and complete the batch of a retry, which has a list of positions."""
    engine, run_id = catalog.engine, catalog.small.id
    with psycopg.connect(libpq_url(engine.url.render_as_string())) as connection:
        rows = connection.execute("SELECT max(id) FROM batch WHERE run_id = %s", (run_id,)).fetchall()
    claimed = leases.claim(engine, run_id, rows[0][0], QUEUE, Lease("host:9:token", 30.0, 3))
    assert claimed is not None
    assert complete(engine, claimed, result_of(claimed), "host:9")

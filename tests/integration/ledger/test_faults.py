"""Workers that are out, batches that they give back, and runs that wait for what no worker has."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, func, select, text, update
from support.ledger import QUEUE, batches, count, published_run, take

from tagmill.db.schema import batch, run_fault, worker_fault
from tagmill.ledger.batches.leases import give_back
from tagmill.ledger.batches.reaper import mark_dead, reclaim_due
from tagmill.ledger.faults import runs as run_faults
from tagmill.ledger.faults.runs import RunFault, Standing, found_here, report_run_fault, subject_of, waiting_needs
from tagmill.ledger.faults.workers import Fault, FaultReason, clear_fault, report_fault
from tagmill.ledger.runs.create import cancel_run, requeue_images
from tagmill.ledger.runs.progress import run_progress
from tagmill.priority import Priority
from tagmill.registry.models import Model

EMPTY = Fault(FaultReason.FOLDER, "folder /pictures is empty; mount it")


def missing(run: int, folder: str = "/pictures") -> RunFault:
    return RunFault(EMPTY.reason, EMPTY.detail, run, subject_of(folder), f"{folder}/0.jpg")


def rows(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def age(engine: Engine, seconds: float) -> None:
    """Let the faults of runs be `seconds` older."""
    with engine.begin() as connection:
        for name in ("since", "seen_at", "found_at", "held_until"):
            connection.execute(update(run_fault).values({name: run_fault.c[name] - seconds}))


def test_a_worker_that_is_out_is_in_the_status_until_it_works_again(engine: Engine, model: Model) -> None:
    run = published_run(engine, model)
    assert report_fault(engine, "a:1", QUEUE, EMPTY)
    assert report_fault(engine, "b:1", "other", EMPTY)
    assert not report_fault(engine, "a:1", QUEUE, EMPTY)
    (shown,) = run_progress(engine, run).unfit_workers
    assert (shown["worker"], shown["reason"], shown["detail"]) == ("a:1", "folder", EMPTY.detail)
    assert report_fault(engine, "a:1", QUEUE, Fault(FaultReason.CLOCK, "set it"))
    assert [found["detail"] for found in run_progress(engine, run).unfit_workers] == ["set it"]
    with engine.begin() as connection:  # a worker that was ended while it was out
        connection.execute(update(worker_fault).values(seen_at=worker_fault.c.seen_at - 200))
    assert run_progress(engine, run).unfit_workers == []
    assert clear_fault(engine, "a:1")
    assert not clear_fault(engine, "a:1")


def test_threads_that_report_the_same_fault_at_once_report_one(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        new = list(pool.map(lambda _: report_fault(engine, "a:1", QUEUE, EMPTY), range(12)))
    assert new.count(True) == 1


def test_a_batch_that_is_given_back_has_lost_nothing(engine: Engine, model: Model) -> None:
    run = published_run(engine, model)
    (number,) = batches(engine, run)
    for _ in range(10):  # three attempts are the most
        claimed = take(engine, number)
        assert claimed is not None
        give_back(engine, claimed, EMPTY.detail)
        assert rows(engine, "SELECT status, attempts, crashes, owner FROM batch") == [("queued", 0, 0, None)]
    assert mark_dead(engine, QUEUE, max_attempts=3) == 0
    assert reclaim_due(engine, QUEUE, Priority.NORMAL) == [(run, number)]
    progress = run_progress(engine, run)
    assert (progress.tagged, progress.failed) == (0, 0)


def test_a_batch_that_may_be_to_blame_becomes_a_suspect(engine: Engine, model: Model) -> None:
    (number,) = batches(engine, published_run(engine, model))
    for _ in range(2):
        claimed = take(engine, number)
        assert claimed is not None
        assert not claimed.suspect
        give_back(engine, claimed, "no memory", crashed=True)
    claimed = take(engine, number)
    assert claimed is not None
    assert claimed.suspect


def test_a_batch_that_another_worker_has_claimed_since_is_not_given_back(engine: Engine, model: Model) -> None:
    (number,) = batches(engine, published_run(engine, model))
    late = take(engine, number, "late", lease=-1.0)
    assert late is not None
    assert take(engine, number, "owner") is not None
    give_back(engine, late, EMPTY.detail)
    assert rows(engine, "SELECT status, owner FROM batch") == [("running", "owner")]


def test_what_another_worker_has_keeps_this_one_out_and_what_none_has_is_held_for_a_time(
    engine: Engine, model: Model
) -> None:
    run = published_run(engine, model)
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.OUT
    age(engine, 14)
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.OUT
    assert not found_here(engine, QUEUE, run, subject_of("/pictures"))  # another worker has it
    age(engine, 14)
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.OUT
    assert len(run_progress(engine, run).waits_for) == 1
    age(engine, 2)  # it has said nothing for 16 s
    standing, until = report_run_fault(engine, missing(run), 60)
    assert standing is Standing.HELD
    (shown,) = run_progress(engine, run).waits_for
    assert (shown["detail"], shown["held_until"]) == (EMPTY.detail, until)
    age(engine, 59)
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.HELD
    age(engine, 2)
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.FINAL
    assert run_progress(engine, run).waits_for == []


def test_batches_that_are_held_wait_and_are_due_again_once_a_worker_has_what_they_need(
    engine: Engine, model: Model
) -> None:
    run = published_run(engine, model, images=3, batch_size=1)
    first, second, third = batches(engine, run)
    report_run_fault(engine, missing(run), 60)
    age(engine, 20)
    _, until = report_run_fault(engine, missing(run), 60)
    for number in (first, second):
        claimed = take(engine, number)
        assert claimed is not None
        give_back(engine, claimed, EMPTY.detail, until)
    assert reclaim_due(engine, QUEUE, Priority.NORMAL) == []
    assert take(engine, first) is None
    assert found_here(engine, QUEUE, run, subject_of("/pictures"))
    assert count(engine, run_fault) == 0
    assert reclaim_due(engine, QUEUE, Priority.NORMAL) == [(run, first), (run, second)]
    assert take(engine, first) is not None
    assert take(engine, third) is not None  # it was never given back


def test_two_folders_of_a_run_are_missed_on_their_own(engine: Engine, model: Model) -> None:
    run = published_run(engine, model)
    report_run_fault(engine, missing(run), 60)
    age(engine, 20)
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.HELD
    assert report_run_fault(engine, missing(run, "/more"), 60)[0] is Standing.OUT


def test_faults_of_cancelled_runs_are_not_looked_at_and_a_retried_run_begins_anew(engine: Engine, model: Model) -> None:
    run = published_run(engine, model)
    report_run_fault(engine, missing(run), 60)
    (row,) = run_faults.run_faults(engine, QUEUE)
    assert (row.run_id, row.parameters["roots"]) == (run, ["/pictures"])
    assert run_faults.run_faults(engine, "other") == []
    cancel_run(engine, run)
    assert run_faults.run_faults(engine, QUEUE) == []
    requeue_images(engine, run, (), QUEUE)
    assert count(engine, run_fault) == 0


def test_a_fault_that_no_worker_has_any_more_is_forgotten(engine: Engine, model: Model) -> None:
    run = published_run(engine, model)
    report_run_fault(engine, missing(run), 60)
    age(engine, 100)
    assert len(run_faults.run_faults(engine, QUEUE)) == 1
    age(engine, 100)
    assert run_faults.run_faults(engine, QUEUE) == []
    assert count(engine, run_fault) == 0


def test_a_fault_that_is_final_stays_final_for_a_day(engine: Engine, model: Model) -> None:
    run = published_run(engine, model)
    report_run_fault(engine, missing(run), 60)
    age(engine, 20)
    report_run_fault(engine, missing(run), 60)
    age(engine, 80_000)
    assert len(run_faults.run_faults(engine, QUEUE)) == 1
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.FINAL
    age(engine, 10_000)
    assert run_faults.run_faults(engine, QUEUE) == []
    assert report_run_fault(engine, missing(run), 60)[0] is Standing.OUT


def test_what_waiting_runs_need_is_known_before_a_batch_is_taken(engine: Engine, model: Model) -> None:
    run = published_run(engine, model, images=6, batch_size=2)
    other = published_run(engine, model, images=2, batch_size=2)
    found = {need.run_id: need for need in waiting_needs(engine, QUEUE)}
    assert set(found) == {run, other}
    assert found[run].roots == ("/pictures",)
    assert found[run].models == (model.sha256,)
    assert str(found[run].uri).startswith("/pictures/")
    cancel_run(engine, other)
    assert [need.run_id for need in waiting_needs(engine, QUEUE)] == [run]
    assert waiting_needs(engine, "other") == []


@pytest.mark.parametrize(("images", "wanted"), [(1, 1), (5, 5), (1000, 8)])
def test_some_files_are_from_all_over_the_run(engine: Engine, model: Model, images: int, wanted: int) -> None:
    run = published_run(engine, model, images=images, batch_size=100)
    places = run_faults.some_files(engine, run, 8)
    assert len(places) == wanted
    assert "/pictures/0.jpg" in places
    assert f"/pictures/{images - 1}.jpg" in places
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(batch)).scalar_one() == -(-images // 100)

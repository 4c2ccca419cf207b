"""What workers say of themselves in SQL."""

from dataclasses import replace

from sqlalchemy import Engine, select, update

from tagmill.db.schema import audit_event, worker_state
from tagmill.ledger.faults.workers import Fault, FaultReason, report_fault
from tagmill.ledger.fleet.workers import Identity, Work, WorkerState, ask_to_drain, begin, list_workers, report

ONE = Identity("web-1:7", "gpu0@web-1", "tagmill", "cuda:0", "1.0")
DONE = Work("CUDAExecutionProvider", ["shirts@1"], batches=2, images=128, rate=12.5, idle_seconds=3.0)


def age(engine: Engine, seconds: float) -> None:
    """Let all reports be `seconds` older."""
    with engine.begin() as connection:
        connection.execute(update(worker_state).values(seen_at=worker_state.c.seen_at - seconds))


def states(engine: Engine) -> list[tuple[str, str]]:
    return [(worker.name, worker.state.value) for worker in list_workers(engine)]


def test_a_worker_is_listed_with_what_it_did_until_it_is_lost(engine: Engine) -> None:
    begin(engine, ONE)
    assert states(engine) == [("gpu0@web-1", "starting")]
    age(engine, 600)  # a device may take minutes
    assert states(engine) == [("gpu0@web-1", "starting")]
    assert not report(engine, ONE, WorkerState.READY, DONE)
    assert not report(engine, ONE, WorkerState.READY, replace(DONE, rate=10.0, idle_seconds=None))
    (worker,) = list_workers(engine)
    assert (worker.host, worker.batches, worker.images, worker.images_per_second) == ("web-1", 4, 256, 10.0)
    assert (worker.provider, worker.models, worker.fault) == ("CUDAExecutionProvider", ["shirts@1"], None)
    assert worker.last_batch_at is not None
    assert 2.5 < worker.seen_at - worker.last_batch_at < 10
    age(engine, 31)
    (worker,) = list_workers(engine)
    assert (worker.state, worker.alive, worker.images_per_second) == (WorkerState.LOST, False, 0.0)
    report(engine, ONE, WorkerState.STOPPED)
    age(engine, 40_000)
    assert states(engine) == [("gpu0@web-1", "stopped")]


def test_a_worker_that_is_started_again_replaces_its_row_and_those_of_yesterday(engine: Engine) -> None:
    begin(engine, replace(ONE, worker="web-2:7", name="gpu0@web-2"))
    age(engine, 90_000)
    begin(engine, ONE)
    ask_to_drain(engine, list_workers(engine))
    begin(engine, replace(ONE, worker="web-1:8"))  # a second one of this name, while the first one runs
    assert states(engine) == [("gpu0@web-1", "starting")] * 2
    report(engine, ONE, WorkerState.STOPPED)
    begin(engine, replace(ONE, worker="web-1:9"))
    found = {worker.worker: worker.drain for worker in list_workers(engine)}
    assert found == {"web-1:8": False, "web-1:9": False}


def test_a_worker_that_is_asked_to_drain_hears_it_at_its_next_report_and_who_asked_is_recorded(engine: Engine) -> None:
    begin(engine, ONE)
    begin(engine, replace(ONE, worker="web-1:8", name="gpu1@web-1"))
    ask_to_drain(engine, [list_workers(engine)[0]])
    assert report(engine, ONE, WorkerState.READY, DONE)
    assert not report(engine, replace(ONE, worker="web-1:8"), WorkerState.READY)
    with engine.connect() as connection:
        (event,) = connection.execute(select(audit_event)).all()
    assert (event.action, event.details) == ("drain", {"worker": "gpu0@web-1"})


def test_a_worker_that_is_out_is_listed_with_its_fault(engine: Engine) -> None:
    report(engine, ONE, WorkerState.OUT)  # its row was deleted meanwhile
    report_fault(engine, ONE.worker, ONE.queue, Fault(FaultReason.FOLDER, "/catalog is empty; mount it"))
    (worker,) = list_workers(engine)
    assert (worker.state, worker.fault) == (WorkerState.OUT, "/catalog is empty; mount it")
    report(engine, ONE, WorkerState.READY)
    assert list_workers(engine)[0].fault is None

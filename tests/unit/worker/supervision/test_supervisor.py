"""How soon the supervisor restarts a worker process."""

import signal

import pytest

from tagmill.errors import ExitCode
from tagmill.ledger.fleet.workers import WorkerState
from worker.supervision.supervisor import Supervisor


def test_a_process_that_had_batches_is_restarted_soon_and_one_that_had_none_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed = iter([3, 1, 0, 0, 0, 2])
    pauses: list[float] = []

    def wait(seconds: float, state: WorkerState) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            supervisor._stopping = True

    supervisor = Supervisor(["false"], {}, lambda name: next(freed))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor, "_wait", wait)
    assert supervisor.run() == ExitCode.DONE
    assert pauses == [1, 1, 2, 4, 8, 1]


def test_an_unfit_worker_is_not_started_and_is_checked_again_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit = iter([False, False, False, True, False])
    pauses: list[float] = []
    started: list[str] = []

    def wait(seconds: float, state: WorkerState) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            supervisor._stopping = True

    supervisor = Supervisor(["false"], {}, lambda name: len(started.append(name) or ()), lambda: next(fit))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor, "_wait", wait)
    assert supervisor.run() == ExitCode.DONE
    assert pauses == [1, 2, 4, 8, 16]
    assert len(started) == 1

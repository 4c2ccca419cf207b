"""How soon a worker process that ended is started again."""

import signal

import pytest

from tagmill.errors import ExitCode
from worker.supervision.supervisor import Supervisor


def test_a_process_that_had_work_is_started_again_soon_one_that_never_got_to_it_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed = iter([3, 1, 0, 0, 0, 2])
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            supervisor._stopping = True

    supervisor = Supervisor(["false"], {}, lambda name: next(freed))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor, "_wait", wait)
    assert supervisor.run() == ExitCode.DONE
    assert pauses == [1, 1, 2, 4, 8, 1]

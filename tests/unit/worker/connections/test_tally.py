"""An event that comes thousands of times is a few lines, and every one of them is counted."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import ClassVar

import pytest

from worker.connections import tally as tally_module
from worker.connections.tally import Tally

log = logging.getLogger("tested")


class Timer:
    """A timer that the test lets end."""

    started: ClassVar[list["Timer"]] = []

    def __init__(self, seconds: float, call: Callable[..., None], given: tuple[object, ...]) -> None:
        self.end = lambda: call(*given)

    def start(self) -> None:
        self.started.append(self)


@pytest.fixture
def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let all timers of a tally end."""
    monkeypatch.setattr(tally_module, "threading", SimpleNamespace(Timer=Timer, Lock=threading.Lock))

    def end_all() -> None:
        running = Timer.started[:]
        Timer.started.clear()
        for timer in running:
            timer.end()

    yield end_all
    Timer.started.clear()


def test_the_first_event_is_logged_at_once_and_the_others_as_their_number(
    caplog: pytest.LogCaptureFixture, let_time_pass: Callable[[], None]
) -> None:
    caplog.set_level(logging.INFO)
    tally = Tally(log, logging.INFO, "refused")
    for number in range(1000):
        tally.add("a kind", reason=f"reason {number}")
    tally.add("another kind", reason="other")
    lines = [(vars(line)["reason"], vars(line)["count"]) for line in caplog.records]
    assert lines == [("reason 0", 1), ("other", 1)]
    let_time_pass()
    assert len(caplog.records) == 3
    assert (vars(caplog.records[2])["reason"], vars(caplog.records[2])["count"]) == ("reason 999", 999)
    let_time_pass()  # nothing more came
    tally.add("a kind", reason="again")
    assert vars(caplog.records[3])["reason"] == "again"

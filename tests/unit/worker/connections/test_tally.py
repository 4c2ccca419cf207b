"""An event that comes thousands of times is a few lines, and every one of them is counted."""

import logging

import pytest
from support.processes import wait_until

from worker.connections.tally import Tally

log = logging.getLogger("tested")


def test_the_first_event_is_logged_at_once_and_the_others_as_their_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tally = Tally(log, logging.INFO, "refused", seconds=0.2)
    for number in range(1000):
        tally.add("a kind", reason=f"reason {number}")
    tally.add("another kind", reason="other")
    lines = [(vars(line)["reason"], vars(line)["count"]) for line in caplog.records]
    assert lines == [("reason 0", 1), ("other", 1)]
    wait_until(lambda: len(caplog.records) == 3, 10, "the others to be counted")
    assert (vars(caplog.records[2])["reason"], vars(caplog.records[2])["count"]) == ("reason 999", 999)
    wait_until(lambda: not tally._waiting, 10, "the tally to be over")
    tally.add("a kind", reason="again")
    assert vars(caplog.records[3])["reason"] == "again"

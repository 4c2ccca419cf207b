"""What the supervisor answers while its process is silent, gone or out."""

import re
import socket
from collections.abc import Iterator

import pytest
from support.scraped import Scraped
from support.services import free_port

from tagmill.settings import Settings
from worker.probes import relay as relay_module
from worker.probes.relay import Relay
from worker.supervision.process import PROBES_VARIABLE

SECONDS = 0.1


class Fault:
    """What SQL says about the worker."""

    found: str | None = None

    def __call__(self) -> str | None:
        if self.found == "down":
            raise OSError("the database is down")
        return self.found


@pytest.fixture
def fault() -> Fault:
    """No fault yet."""
    return Fault()


@pytest.fixture
def scraped() -> Scraped:
    """The port of the supervisor."""
    return Scraped(free_port())


@pytest.fixture
def relay(scraped: Scraped, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A supervisor's answers; its process has a tenth of a second to answer."""
    monkeypatch.setattr(relay_module, "ANSWER_SECONDS", SECONDS)
    monkeypatch.setattr(relay_module, "METRICS_SECONDS", SECONDS)
    relay = Relay(Settings(metrics_port=scraped.port), fault)
    yield relay
    relay.close()


def test_a_process_that_is_silent_for_too_long_is_not_alive(relay: Relay, scraped: Scraped) -> None:
    relay._limit = 600.0
    assert scraped.reasons() == {"process": "starting"}
    relay.started()
    assert scraped.reasons() == {"process": "starting"}  # nobody listens yet
    assert scraped.status("/live") == 200
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(relay.environment[PROBES_VARIABLE])
        silent.listen(9)
        assert scraped.status("/live") == 200
        assert re.fullmatch(r"no answer for \d+ s", scraped.reasons()["process"])
        assert scraped.value("tagmill_worker_ready") == 0
        relay._limit = 0.0
        assert scraped.status("/live") == 503
        relay.ended(-9)
    assert scraped.status("/live") == 200
    assert scraped.value("tagmill_worker_restarts_total", code="SIGKILL") == 1


def test_without_a_process_the_reason_is_the_fault_of_the_worker(relay: Relay, scraped: Scraped, fault: Fault) -> None:
    relay.started()
    relay.ended(93)
    idle = {"process": "the process ended; the next one is started after a pause"}
    assert scraped.reasons() == idle
    fault.found = "/pictures: there is no such folder"
    assert scraped.reasons() == {"process": fault.found}
    fault.found = "down"
    assert scraped.reasons() == idle
    assert scraped.status("/live") == 200
    assert scraped.value("tagmill_worker_restarts_total", code="unfit") == 1

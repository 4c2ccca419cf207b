"""When a service that failed counts as back, of many threads that ask it."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.exc import DatabaseError, OperationalError

from worker.connections.availability import Services, StoppedError

FULL = OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
FULL.orig.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[union-attr]


def elsewhere(work: Callable[[], object]) -> None:
    """Do it in another thread, to its end."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_full_disk_is_named_once_and_over_once_what_failed_is_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    services, tries = Services(), iter([True, True, False])

    def write() -> None:
        elsewhere(lambda: services.retry_until_available(lambda: "read"))  # as another batch reads meanwhile
        if next(tries):
            raise FULL

    services.retry_until_available(write)
    first, last = caplog.messages
    assert first == "database is down (database or disk is full); waiting for it"
    assert last == "database is back"


def test_a_thread_that_asks_again_and_again_ends_what_it_began(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    services = Services()
    assert services.note(FULL)  # as of a reaper
    elsewhere(lambda: services.retry_until_available(lambda: "read"))
    assert not services.database.is_stable(0)
    services.database.answered(time.monotonic())
    assert services.database.is_stable(-1)
    assert [message.partition(" (")[0] for message in caplog.messages] == ["database is down", "database is back"]


@pytest.mark.parametrize("end", [StoppedError, DatabaseError])
def test_what_is_given_up_is_waited_for_no_more(end: type[Exception]) -> None:
    services, tries = Services(stopping=lambda: end is StoppedError), iter([FULL, DatabaseError("x", {}, ValueError())])

    def write() -> None:
        raise next(tries)

    with pytest.raises(end):
        services.retry_until_available(write)
    assert not services.database.is_stable(-1)
    elsewhere(lambda: services.retry_until_available(lambda: "read"))
    assert services.database.is_stable(-1)

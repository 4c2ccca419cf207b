"""When a service that failed counts as back, if many threads use it."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.exc import DatabaseError, OperationalError

from worker.connections.availability import MOST_REASONS, Services, StoppedError

FULL = OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
FULL.orig.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[union-attr]


def in_another_thread(work: Callable[[], object]) -> None:
    """Run `work` in another thread and wait for it."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_full_disk_is_logged_once_and_over_when_the_failed_write_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    services, tries = Services(), iter([True, True, False])

    def write() -> None:
        in_another_thread(lambda: services.retry_until_available(lambda: "read"))  # another batch reads meanwhile
        if next(tries):
            raise FULL

    services.retry_until_available(write)
    first, last = caplog.messages
    assert first == "database is down (database or disk is full); waiting for it"
    assert last == "database is back"


def test_a_thread_that_repeats_its_call_ends_the_outage_that_it_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    services = Services()
    assert services.note(FULL)  # like a reaper
    in_another_thread(lambda: services.retry_until_available(lambda: "read"))
    assert not services.database.is_stable(0)
    services.database.answered(time.monotonic())
    assert services.database.is_stable(-1)
    assert [message.partition(" (")[0] for message in caplog.messages] == ["database is down", "database is back"]


@pytest.mark.parametrize("end", [StoppedError, DatabaseError])
def test_an_outage_ends_after_the_retries_of_a_failed_call_were_given_up(end: type[Exception]) -> None:
    services, tries = Services(stopping=lambda: end is StoppedError), iter([FULL, DatabaseError("x", {}, ValueError())])

    def write() -> None:
        raise next(tries)

    with pytest.raises(end):
        services.retry_until_available(write)
    assert not services.database.is_stable(-1)
    in_another_thread(lambda: services.retry_until_available(lambda: "read"))
    assert services.database.is_stable(-1)


def test_an_outage_whose_reason_changes_says_the_new_one_and_each_reason_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    database = Services().database
    for reason in ("port 5432: refused", "no space left", "port 5433: refused", "no space left", "starting up"):
        database.failed(OSError(reason))
    database.answered(time.monotonic())
    database.failed(OSError("no space left"))
    assert caplog.messages == [
        "database is down (port 5432: refused); waiting for it",
        "database is still down, now because: no space left",
        "database is still down, now because: starting up",
        "database is back",
        "database is down (no space left); waiting for it",
    ]


def test_an_outage_with_ever_new_reasons_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    database = Services().database
    for letter in "abcdefghijklm":
        database.failed(OSError(f"reason {letter}"))
    assert len(caplog.messages) == MOST_REASONS

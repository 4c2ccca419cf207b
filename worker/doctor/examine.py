"""Run the checks: all at once, each within its time and whatever becomes of the others."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from tagmill.errors import TagmillError, first_line
from worker.doctor import bundles, fleet, settings, work
from worker.doctor.finding import Check, Finding, Level, Subject, error, skipped
from worker.doctor.machine import disk, roots
from worker.doctor.services import broker, database, model_store


class Planned(NamedTuple):
    """A check that is to be run."""

    name: str
    check: Check
    #: seconds that it may take
    limit: float
    #: whether it needs the database, and another one says so if that is down
    needs_database: bool = False
    #: whether it takes long
    slow: bool = False
    #: what to do if it takes longer
    late: str = "look for a server or a network drive that hangs"


CHECKS = (
    Planned("settings", settings.check, 20),
    Planned("database", database.check, 30),
    Planned("broker", broker.check, 10, late=broker.LATE),
    Planned("roots", roots.check, 30),
    Planned("disk", disk.check, 30),
    Planned("model store", model_store.check, 120, needs_database=True),
    Planned("device", bundles.check_device, 120, slow=True),
    Planned("bundles", bundles.check, 300, needs_database=True, slow=True),
    Planned("workers", fleet.check, 30, needs_database=True),
    Planned("runs", work.check, 60, needs_database=True),
)


def examine(
    subject: Subject, *, quick: bool = False, checks: Sequence[Planned] = CHECKS
) -> Iterator[tuple[str, list[Finding]]]:
    """Yield the name and the findings of each check, in their order. `quick` leaves out those that take long."""
    began = time.monotonic()
    chosen = [planned for planned in checks if not (quick and planned.slow)]
    started = [(planned, *_start(planned, subject)) for planned in chosen]
    for planned, thread, found in started:
        thread.join(max(0.0, began + planned.limit - time.monotonic()))
        yield planned.name, list(found) if not thread.is_alive() else [*found, _late(planned)]


def _start(planned: Planned, subject: Subject) -> tuple[threading.Thread, list[Finding]]:
    found: list[Finding] = []

    def run() -> None:
        try:
            found.extend(planned.check(subject))
        except (TagmillError, SQLAlchemyError) as failure:
            if planned.needs_database:
                found.append(skipped("not looked at: it needs the database, see there"))
            else:
                found.append(error(first_line(failure), "correct what the line names"))
        except Exception as failure:  # a check that fails must not hide what the others find
            found.append(Finding(Level.ERROR, f"the check failed: {type(failure).__name__}: {first_line(failure)}"))

    thread = threading.Thread(target=run, name=f"check {planned.name}", daemon=True)
    thread.start()
    return thread, found


def _late(planned: Planned) -> Finding:
    return error(f"no answer within {planned.limit:.0f} s", planned.late)

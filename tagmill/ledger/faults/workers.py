"""Workers that are out: each has one row that says why, until its fault is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, select, update

from tagmill.db.connection import epoch_now, insert_ignore, reading
from tagmill.db.schema import worker_fault

#: seconds after which a worker that reported a fault counts as ended: one that is out reports at least once a minute
REPORTED_SECONDS = 150.0
#: seconds after which a row that changes nothing any more is deleted
KEPT_SECONDS = 86_400.0


class FaultReason(StrEnum):
    """What is wrong with a worker."""

    #: a bundle that a run needs is missing in its model store, damaged there, or cannot be read
    STORE = "store"
    #: a bundle cannot be loaded, or gives wrong answers to its golden samples
    BUNDLE = "bundle"
    #: a folder with images of a run is not there, empty, or cannot be read
    FOLDER = "folder"
    #: the cache folder cannot be written to
    CACHE = "cache"
    #: the device does not work
    DEVICE = "device"
    #: its clock is far from the database's
    CLOCK = "clock"
    #: the process has no memory left, or is limited to less than it needs
    MEMORY = "memory"
    #: the operating system refuses something else that no image is to blame for, such as a file on a full disk
    SYSTEM = "system"


@dataclass(frozen=True)
class Fault:
    """What keeps a worker from working; `detail` is one sentence that also says what to do."""

    reason: FaultReason
    detail: str


def report_fault(engine: Engine, worker: str, queue: str, fault: Fault) -> bool:
    """Record that a worker is out; return False if it is known with this fault already."""
    now = epoch_now()
    mine = worker_fault.c.worker == worker
    same = and_(mine, worker_fault.c.reason == fault.reason, worker_fault.c.detail == fault.detail)
    row = {"queue": queue, "reason": fault.reason.value, "detail": fault.detail}
    with engine.begin() as connection:
        connection.execute(delete(worker_fault).where(worker_fault.c.seen_at < now - KEPT_SECONDS))
        # Threads of a worker may report at once: only the first inserts.
        new = insert_ignore(connection, worker_fault).values(worker=worker, since=now, seen_at=now, **row)
        if connection.execute(new.returning(worker_fault.c.worker)).one_or_none() is not None:
            return True
        if connection.execute(update(worker_fault).where(same).values(seen_at=now, queue=queue)).rowcount:
            return False
        connection.execute(update(worker_fault).where(mine).values(since=now, seen_at=now, **row))
    return True


def clear_fault(engine: Engine, worker: str) -> bool:
    """Record that a worker is no longer out; return whether it was."""
    with engine.begin() as connection:
        return connection.execute(delete(worker_fault).where(worker_fault.c.worker == worker)).rowcount > 0


def fault_of(engine: Engine, worker: str) -> str | None:
    """Return why a worker is out; None if it is not, or if the database does not know it."""
    mine = select(worker_fault.c.detail).where(worker_fault.c.worker == worker)
    with reading(engine) as connection:
        found = connection.execute(mine).scalar_one_or_none()
    return None if found is None else str(found)


def unfit_workers(connection: Connection, queue: str) -> Sequence[dict[str, Any]]:
    """Return the workers of a queue that are out now: worker, reason, detail, and since when in Unix seconds."""
    columns = (worker_fault.c.worker, worker_fault.c.reason, worker_fault.c.detail, worker_fault.c.since)
    now_out = and_(worker_fault.c.queue == queue, worker_fault.c.seen_at > epoch_now() - REPORTED_SECONDS)
    found = connection.execute(select(*columns).where(now_out).order_by(worker_fault.c.worker))
    return [dict(row._mapping) for row in found]

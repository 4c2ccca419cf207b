"""The faults that are injected into a cluster while it works, and their times."""

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from chaos.cluster import Child, Cluster, SupervisedWorker, send
from sqlalchemy import text

from tagmill.db.connection import reading

#: most seconds that Redis is down
REDIS_DOWN = 3.0
#: seconds that PostgreSQL is down
DATABASE_DOWN = 5.0
#: seconds that the catalog is not mounted
CATALOG_GONE = 5.0


class Fault(StrEnum):
    """A kind of fault; its value is shown to the user."""

    #: a defect in a library, or the kernel out of memory
    KILL_WORKER = "SIGKILL to a worker process"
    #: a container or machine is lost and replaced
    KILL_BOTH = "SIGKILL to supervisor and worker process"
    #: a deployment
    TERMINATE = "SIGTERM to a supervisor"
    #: a machine is suspended for longer than its leases, then continues
    FREEZE = "SIGSTOP, SIGCONT after the lease"
    #: a Redis without persistence
    EMPTY_REDIS = "Redis killed, back empty"
    #: a Redis with AOF
    RESTART_REDIS = "Redis killed, back with its data"
    #: every connection and transaction breaks
    RESTART_DATABASE = "PostgreSQL stopped (immediate), back"
    #: a network drive; only for a catalog that is drawn: its folder is renamed
    UNMOUNT = "catalog gone, back"
    #: only on the services of `chaos.failover`
    FAIL_OVER = "a service fails over"


KILLS = frozenset({Fault.KILL_WORKER, Fault.KILL_BOTH})


@dataclass(frozen=True)
class InjectedFault:
    """A fault that was injected. Times are Unix seconds; `process` is the name of the process in the ledger."""

    fault: Fault
    at: float
    target: str = ""
    process: str = ""
    #: when a stopped service is started again
    back: float = 0.0


def draw_plan(images: int, faults: Mapping[Fault, int], seed: int) -> list[tuple[int, Fault]]:
    """Return the faults in an order drawn with `seed`, each with the number of finished images at which it is due.

    Each fault has a slice of the images and is due at a random point of it. No fault is due in the last tenth, so that
    every fault disturbs work.
    """
    rng = random.Random(seed)
    order = [fault for fault, count in faults.items() for _ in range(count)]
    rng.shuffle(order)
    slice_images = 0.9 * images / max(1, len(order))
    return [(round((number + rng.random()) * slice_images), fault) for number, fault in enumerate(order)]


class Injector:
    """Injects faults into a cluster, and later restores what they stopped."""

    def __init__(self, cluster: Cluster, catalog: Path, seed: int, frozen_seconds: float) -> None:
        self._cluster = cluster
        self._catalog = catalog
        self._rng = random.Random(seed)
        self._frozen_seconds = frozen_seconds
        self._later: list[tuple[float, Callable[[], object]]] = []

    @property
    def pending(self) -> bool:
        """Whether something is still stopped."""
        return bool(self._later)

    def restore_due(self) -> None:
        """Restore what has been stopped long enough."""
        now = time.monotonic()
        due = [action for due_at, action in self._later if due_at <= now]
        self._later = [(due_at, action) for due_at, action in self._later if due_at > now]
        for action in due:
            action()
        self._cluster.restart_ended()

    def inject(self, fault: Fault) -> InjectedFault | None:
        """Inject the fault. Return None if it needs a worker that owns a batch, and none does."""
        services, now = self._cluster.services, time.time()
        match fault:
            case Fault.EMPTY_REDIS | Fault.RESTART_REDIS:
                services.redis.kill()
                if fault is Fault.EMPTY_REDIS:
                    services.redis.lose_data()
                down = self._rng.uniform(0, REDIS_DOWN)
                self._after(down, services.redis.start)
                return InjectedFault(fault, now, back=now + down)
            case Fault.RESTART_DATABASE:
                services.database.stop()
                self._after(DATABASE_DOWN, services.database.start)
                return InjectedFault(fault, now, back=now + DATABASE_DOWN)
            case Fault.UNMOUNT:
                away = self._catalog.with_name(f"{self._catalog.name}.away")
                self._catalog.rename(away)
                self._after(CATALOG_GONE, lambda: away.rename(self._catalog))
                return InjectedFault(fault, now, back=now + CATALOG_GONE)
            case Fault.FAIL_OVER:
                services.fail()
                self._after(services.mend_after, services.mend)
                return InjectedFault(fault, now, back=now + services.mend_after)
        busy = self._busy()
        return self._hit(fault, *self._rng.choice(busy)) if busy else None

    def _hit(self, fault: Fault, worker: SupervisedWorker, child: Child) -> InjectedFault | None:
        hit = InjectedFault(fault, time.time(), worker.name, child.name)
        match fault:
            case Fault.TERMINATE:
                worker.supervisor.terminate()
                return hit
            case Fault.FREEZE:
                self._after(self._frozen_seconds, lambda: send(child.pid, signal.SIGCONT))
                return hit if send(child.pid, signal.SIGSTOP) else None
            case Fault.KILL_BOTH:
                # The supervisor first: it must not free the batches of its worker.
                worker.supervisor.kill()
        return hit if send(child.pid, signal.SIGKILL) else None

    def _busy(self) -> list[tuple[SupervisedWorker, Child]]:
        """Return the workers that own a batch."""
        with reading(self._cluster.engine) as connection:
            found = connection.execute(text("SELECT DISTINCT split_part(owner, ':', 1) FROM batch WHERE owner <> ''"))
            names = set(found.scalars())
        children = [(worker, worker.child()) for worker in self._cluster.workers]
        return [(worker, child) for worker, child in children if child is not None and child.name in names]

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, action))

"""What is done to a cluster while it works, and when."""

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from chaos.cluster import Child, Cluster, SupervisedWorker, send
from sqlalchemy import text

from tagmill.db.connection import reading

#: seconds that Redis is away, at most
REDIS_AWAY = 3.0
#: seconds that PostgreSQL is away
DATABASE_AWAY = 5.0


class Fault(StrEnum):
    """What can be done; the value says it to the reader."""

    #: a defect in a library, or the kernel out of memory
    KILL_WORKER = "SIGKILL to a worker process"
    #: a container or machine that is gone; another comes up
    KILL_BOTH = "SIGKILL to supervisor and worker process"
    #: a deployment
    TERMINATE = "SIGTERM to a supervisor"
    #: a machine that sleeps longer than its leases, then goes on as if nothing had been
    FREEZE = "SIGSTOP, SIGCONT after the lease"
    #: a Redis without persistence
    EMPTY_REDIS = "Redis killed, back empty"
    #: a Redis with AOF
    RESTART_REDIS = "Redis killed, back with its data"
    #: every connection and transaction breaks
    RESTART_DATABASE = "PostgreSQL stopped (immediate), back"


KILLS = frozenset({Fault.KILL_WORKER, Fault.KILL_BOTH})


@dataclass(frozen=True)
class Injected:
    """A fault that was done. Times are Unix seconds; `process` is the ledger's name of the process that was hit."""

    fault: Fault
    at: float
    target: str = ""
    process: str = ""
    #: when a service that was stopped is started again
    back: float = 0.0


def draw_plan(images: int, faults: Mapping[Fault, int], seed: int) -> list[tuple[int, Fault]]:
    """Return the faults in an order drawn by `seed`, each with the images that have an outcome when its moment comes.

    Each has a slice of the work and comes at a random place of it. The last tenth is left alone, so that every fault
    finds work to disturb.
    """
    rng = random.Random(seed)
    order = [fault for fault, count in faults.items() for _ in range(count)]
    rng.shuffle(order)
    slice_images = 0.9 * images / max(1, len(order))
    return [(round((number + rng.random()) * slice_images), fault) for number, fault in enumerate(order)]


class Injector:
    """Does faults to a cluster, and what belongs after them when its time comes."""

    def __init__(self, cluster: Cluster, seed: int, frozen_seconds: float) -> None:
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._frozen_seconds = frozen_seconds
        self._later: list[tuple[float, Callable[[], object]]] = []

    @property
    def waiting(self) -> bool:
        """Whether something is still away or frozen."""
        return bool(self._later)

    def go_on(self) -> None:
        """Bring back what was away long enough."""
        now = time.monotonic()
        due = [action for moment, action in self._later if moment <= now]
        self._later = [(moment, action) for moment, action in self._later if moment > now]
        for action in due:
            action()
        self._cluster.revive()

    def inject(self, fault: Fault) -> Injected | None:
        """Do it; return None where its moment has not come: no worker has a batch in hand."""
        services, now = self._cluster.services, time.time()
        match fault:
            case Fault.EMPTY_REDIS | Fault.RESTART_REDIS:
                services.redis.kill()
                if fault is Fault.EMPTY_REDIS:
                    services.redis.lose_data()
                away = self._rng.uniform(0, REDIS_AWAY)
                self._after(away, services.redis.start)
                return Injected(fault, now, back=now + away)
            case Fault.RESTART_DATABASE:
                services.database.stop()
                self._after(DATABASE_AWAY, services.database.start)
                return Injected(fault, now, back=now + DATABASE_AWAY)
        busy = self._busy()
        return self._hit(fault, *self._rng.choice(busy)) if busy else None

    def _hit(self, fault: Fault, worker: SupervisedWorker, child: Child) -> Injected | None:
        hit = Injected(fault, time.time(), worker.name, child.name)
        match fault:
            case Fault.TERMINATE:
                worker.supervision.supervisor.terminate()
                return hit
            case Fault.FREEZE:
                self._after(self._frozen_seconds, lambda: send(child.pid, signal.SIGCONT))
                return hit if send(child.pid, signal.SIGSTOP) else None
            case Fault.KILL_BOTH:
                # The supervisor first: it must not free what its worker leaves behind.
                worker.supervision.supervisor.kill()
        return hit if send(child.pid, signal.SIGKILL) else None

    def _busy(self) -> list[tuple[SupervisedWorker, Child]]:
        """Return the workers with a batch in hand."""
        with reading(self._cluster.engine) as connection:
            found = connection.execute(text("SELECT DISTINCT split_part(owner, ':', 1) FROM batch WHERE owner <> ''"))
            names = set(found.scalars())
        children = [(worker, worker.child()) for worker in self._cluster.workers]
        return [(worker, child) for worker, child in children if child is not None and child.name in names]

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, action))

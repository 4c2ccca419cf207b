"""What the exporter reads: queues and workers from SQL, memory from Redis."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tagmill.broker.redis_client import open_redis
from tagmill.db.outages.outage import is_outage
from tagmill.errors import ConfigurationError, first_line
from tagmill.ledger.fleet.queue_state import QueueState, queue_state
from tagmill.ledger.fleet.workers import WorkerState, list_workers

#: the states of workers that run
ALIVE = (WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING, WorkerState.OUT)
#: seconds that Redis may be silent
REDIS_SECONDS = 3.0


@dataclass(frozen=True)
class Ledger:
    """What SQL says."""

    state: QueueState
    #: (queue, state) -> workers that have reported lately
    workers: Counter[tuple[str, str]]


@dataclass(frozen=True)
class BrokerMemory:
    """Bytes of Redis; None if its user may not ask."""

    used: int | None
    #: `maxmemory`; 0: no limit
    limit: int | None


def read_ledger(engine: Engine) -> Ledger:
    """Return what SQL says now. Raise ConfigurationError if the tables are not those of this version."""
    try:
        alive = [worker for worker in list_workers(engine) if worker.alive]
        return Ledger(queue_state(engine), Counter((worker.queue, worker.state.value) for worker in alive))
    except DBAPIError as error:
        if is_outage(error):
            raise
        raise ConfigurationError(f"{first_line(error)}; run `tagmill db upgrade` of this version") from error


def broker_reader(url: str) -> Callable[[], BrokerMemory] | None:
    """Return what reads the memory of Redis; None if the broker is none that other processes reach."""
    if url.startswith("memory:"):
        return None
    from redis.exceptions import NoPermissionError

    client = open_redis(url, REDIS_SECONDS)

    def read() -> BrokerMemory:
        client.ping()
        try:
            found = client.info("memory")
        except NoPermissionError:
            return BrokerMemory(None, None)
        return BrokerMemory(int(found["used_memory"]), int(found.get("maxmemory", 0)))

    return read

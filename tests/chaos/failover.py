"""Failovers in the middle of a run: a Redis behind Sentinel, a PostgreSQL with a standby, and a restart of PgBouncer.

Run it with `PYTHONPATH=tests python -m chaos.failover --images 10000 --workers 3`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.catalog import draw_catalog
from chaos.cluster import Database, Redis
from chaos.display import Display
from chaos.experiment import Setup, TaggedCatalog, tag_catalog
from chaos.injection import Fault
from support.bundles import write_classifier
from support.pgbouncer import PgBouncerServer
from support.sentinel import ReplicatedRedis
from support.services import RedisServer

from tagmill.db.schema import BatchStatus

#: seconds until what watches the primary promotes the standby, and until PgBouncer is started again
WATCHED_SECONDS = 2.0


class Services:
    """What a scenario runs on. `fail` breaks one of the services; `mend` is called `mend_after` seconds later."""

    mend_after = WATCHED_SECONDS

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.start(stack.enter_context)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, enter: Callable[[AbstractContextManager[object]], object]) -> None:
        """Start the servers, and set `redis` and `database`."""
        raise NotImplementedError

    def fail(self) -> None:
        """Break a service."""
        raise NotImplementedError

    def mend(self) -> None:
        """Do what whoever watches the service does."""


class SentinelRedis(ReplicatedRedis):
    """The replicated Redis as a cluster of workers takes it."""

    @property
    def version(self) -> str:
        """The version of the servers."""
        return self.servers[0].version

    def flush(self) -> None:
        """Do nothing: it was just started."""


class Sentinel(Services):
    """The master of Redis is killed. Sentinel promotes its replica."""

    def start(self, enter: Callable[[AbstractContextManager[object]], object]) -> None:
        """Start Redis with a replica and three sentinels, and PostgreSQL."""
        self.redis, self.database = SentinelRedis(), Database()
        enter(self.redis)
        enter(self.database)

    def fail(self) -> None:
        """Kill the master."""
        self.redis.master.kill()


class PrimaryOrStandby:
    """The URL of two PostgreSQL servers, the first of which is the primary."""

    def __init__(self, primary: Database, standby: Database) -> None:
        self.version = primary.version
        self.url = f"postgresql+psycopg://postgres@/postgres?host={primary.folder},{standby.folder}"


class Promotion(Services):
    """The primary is killed, its standby promoted. Then the former primary comes back by mistake."""

    redis: RedisServer

    def start(self, enter: Callable[[AbstractContextManager[object]], object]) -> None:
        """Start Redis, and PostgreSQL with an asynchronous standby."""
        self.redis, self._primary = Redis(), Database()
        enter(self.redis)
        enter(self._primary)
        self._standby = Database(primary=self._primary)
        enter(self._standby)
        self.database = PrimaryOrStandby(self._primary, self._standby)

    def fail(self) -> None:
        """Kill the primary."""
        self._primary.kill()

    def mend(self) -> None:
        """Promote the standby, and start the former primary."""
        self._standby.promote()
        self._primary.start()


class Pooled:
    """The URL of a PostgreSQL behind PgBouncer."""

    def __init__(self, database: Database, pooler: PgBouncerServer) -> None:
        self.version = database.version
        self.url = pooler.url("postgres")


class Pooler(Services):
    """PgBouncer is killed and started again."""

    def start(self, enter: Callable[[AbstractContextManager[object]], object]) -> None:
        """Start Redis, PostgreSQL and PgBouncer in transaction mode."""
        self.redis, database = Redis(), Database()
        enter(self.redis)
        enter(database)
        self._pooler = PgBouncerServer(database, server_login_retry=1, default_pool_size=15, max_client_conn=500)
        enter(self._pooler)
        self.database = Pooled(database, self._pooler)

    def fail(self) -> None:
        """Kill PgBouncer."""
        self._pooler.kill()

    def mend(self) -> None:
        """Start it again."""
        self._pooler.start()


SCENARIOS = {"sentinel": Sentinel, "promotion": Promotion, "pgbouncer": Pooler}


def main() -> int:
    """Print a line for each scenario. Return 1 if an image was lost, stored twice or not tagged."""
    parser = argparse.ArgumentParser(prog="chaos.failover", description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="one of them; repeat it. All by default")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="seed of the pictures, and of the moment of the failover")
    options = parser.parse_args()
    display, clean = Display(), True
    with tempfile.TemporaryDirectory(prefix="tagmill-failover-") as made:
        folder = Path(made)
        display.log(f"making a catalog of {options.images} images")
        catalog = draw_catalog(folder / "catalog", options.images, options.seed)
        setup = Setup(write_classifier(folder / "colors.onnx"), options.workers, batch_size=16)
        for name in options.scenario or SCENARIOS:
            with SCENARIOS[name]() as services:
                display.log_versions(services)
                found = tag_catalog(
                    setup, catalog, services, folder / name, display, {Fault.FAIL_OVER: 1}, options.seed
                )
            audit = found.audit
            good = audit.tagged == options.images and not (audit.lost or audit.doubled) and len(found.injected) == 1
            clean = clean and good
            print(
                f"{name}: images={audit.images} tagged={audit.tagged} lost={audit.lost} doubled={audit.doubled} "
                f"redone={audit.redone} seconds={audit.seconds:.1f} recovered after {_pause(found):.1f} s"
            )
    return 0 if clean else 1


def _pause(found: TaggedCatalog) -> float:
    """Return the longest time without a finished batch from the failover on, in seconds."""
    if not found.injected:
        return float("nan")  # it was over before the failover
    (hit,) = found.injected
    done = [step.at for steps in found.journal.values() for step in steps if step.status is BatchStatus.DONE]
    moments = [hit.at, *sorted(at for at in done if at > hit.at)]
    return max((after - before for before, after in pairwise(moments)), default=float("inf"))


if __name__ == "__main__":
    sys.exit(main())

"""Failovers in the middle of a run: a Redis behind Sentinel, a PostgreSQL with a standby, and a PgBouncer.

Run it with `PYTHONPATH=tests python -m chaos.failover --images 10000 --workers 3 --repeat 3`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.catalog import Catalog, draw_catalog
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
#: settings of PgBouncer beyond those of the tests
POOLER = {"server_login_retry": 1, "query_wait_timeout": 15, "default_pool_size": 15, "max_client_conn": 500}


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
        self._pooler = PgBouncerServer(database, **POOLER)
        enter(self._pooler)
        self.database = Pooled(database, self._pooler)

    def fail(self) -> None:
        """Kill PgBouncer."""
        self._pooler.kill()

    def mend(self) -> None:
        """Start it again."""
        self._pooler.start()


class PooledPromotion(Services):
    """The primary behind PgBouncer is killed. Its standby is promoted, and PgBouncer led to it."""

    def start(self, enter: Callable[[AbstractContextManager[object]], object]) -> None:
        """Start Redis, PostgreSQL with an asynchronous standby, and PgBouncer in transaction mode."""
        self.redis, self._primary = Redis(), Database()
        enter(self.redis)
        enter(self._primary)
        self._standby = Database(primary=self._primary)
        enter(self._standby)
        self._pooler = PgBouncerServer(self._primary, **POOLER)
        enter(self._pooler)
        self.database = Pooled(self._primary, self._pooler)

    def fail(self) -> None:
        """Kill the primary."""
        self._primary.kill()

    def mend(self) -> None:
        """Promote the standby, and lead PgBouncer to it."""
        self._standby.promote()
        self._pooler.lead_to(self._standby)


SCENARIOS = {"sentinel": Sentinel, "promotion": Promotion, "pgbouncer": Pooler, "pooled-promotion": PooledPromotion}


def main() -> int:
    """Print a line for each failover, and one for each scenario that was repeated.

    Return 1 if an image was lost, stored twice or not tagged.
    """
    parser = argparse.ArgumentParser(prog="chaos.failover", description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="one of them; repeat it. All by default")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="failovers of each scenario, at other moments")
    parser.add_argument("--seed", type=int, default=1, help="seed of the pictures, and of the moments of the failovers")
    options = parser.parse_args()
    display, clean = Display(), True
    with tempfile.TemporaryDirectory(prefix="tagmill-failover-") as made:
        folder = Path(made)
        display.log(f"making a catalog of {options.images} images")
        catalog = draw_catalog(folder / "catalog", options.images, options.seed)
        setup = Setup(write_classifier(folder / "colors.onnx"), options.workers, batch_size=16)
        for name in options.scenario or SCENARIOS:
            pauses = []
            for seed in range(options.seed, options.seed + options.repeat):
                found = _fail_over(name, seed, setup, catalog, folder / f"{name}-{seed}", display)
                clean = clean and _is_clean(found)
                pauses.append(_pause(found))
                print(_line(name, seed, found, pauses[-1]), flush=True)
            if options.repeat > 1:
                print(
                    f"{name}: recovered after {statistics.median(pauses):.1f} s (median of {options.repeat}), "
                    f"{min(pauses):.1f} to {max(pauses):.1f} s",
                    flush=True,
                )
    return 0 if clean else 1


def _fail_over(name: str, seed: int, setup: Setup, catalog: Catalog, folder: Path, display: Display) -> TaggedCatalog:
    """Tag the catalog on new servers, of which one fails over at a moment drawn with `seed`."""
    with SCENARIOS[name]() as services:
        display.log_versions(services)
        return tag_catalog(setup, catalog, services, folder, display, {Fault.FAIL_OVER: 1}, seed)


def _is_clean(found: TaggedCatalog) -> bool:
    audit = found.audit
    return audit.tagged == audit.images and not (audit.lost or audit.doubled) and len(found.injected) == 1


def _line(name: str, seed: int, found: TaggedCatalog, pause: float) -> str:
    audit = found.audit
    return (
        f"{name}: seed={seed} images={audit.images} tagged={audit.tagged} lost={audit.lost} doubled={audit.doubled} "
        f"redone={audit.redone} seconds={audit.seconds:.1f} recovered after {pause:.1f} s"
    )


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

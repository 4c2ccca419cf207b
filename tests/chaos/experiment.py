"""Tag one catalog with a cluster of workers, undisturbed or while faults are done to everything that works on it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.account import Account, settle
from chaos.catalog import Catalog
from chaos.cluster import Cluster, Services
from chaos.display import Display
from chaos.injection import Fault, Injected, Injector, draw_plan
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from support.processes import tagmill, tagmill_json

from tagmill.db.connection import is_outage, reading
from tagmill.settings import Settings

LOOK_SECONDS = 0.05
#: without a single image in this time, nothing happens any more
STALLED_SECONDS = 180.0
#: a frozen worker sleeps its lease and this much longer
OVERSLEEP_SECONDS = 2.0


@dataclass(frozen=True)
class Setup:
    """By whom the catalog is tagged."""

    bundle: Path
    workers: int
    batch_size: int = 64
    #: of the workers; what is not named keeps its default
    settings: Mapping[str, object] = field(default_factory=dict)
    #: seconds that each image takes more
    slowness: float = 0.0

    @property
    def frozen_seconds(self) -> float:
        """How long a frozen worker sleeps."""
        lease = self.settings.get("lease_seconds", Settings.model_fields["lease_seconds"].default)
        return float(str(lease)) + OVERSLEEP_SECONDS


@dataclass(frozen=True)
class Tagged:
    """A catalog that was tagged."""

    account: Account
    #: JSON lines, as `tagmill results` writes them
    results: Path
    injected: Sequence[Injected]


def tag_catalog(
    setup: Setup,
    catalog: Catalog,
    services: Services,
    folder: Path,
    display: Display,
    faults: Mapping[Fault, int] | None = None,
    seed: int = 0,
) -> Tagged:
    """Tag the catalog on a new database. How many faults of a kind `faults` says; `seed` draws order and moments."""
    images = len(catalog.pictures)
    display.say(f"{folder.name}: starting {setup.workers} workers")
    with Cluster(services, folder, setup.bundle, setup.workers, setup.settings, setup.slowness) as cluster:
        named = ("--model", "chaos", "--batch-size", setup.batch_size, "--allow-root", catalog.root)
        run = int(tagmill_json("submit", catalog.manifest, *named, env=cluster.env)["run"])
        with display.progress(folder.name, images):
            disturbance = _Disturbance(cluster, run, images, Injector(cluster, seed, setup.frozen_seconds), display)
            injected = disturbance.carry_out(draw_plan(images, faults or {}, seed))
        account = settle(cluster.engine, run, images, injected)
        results = folder / "results.jsonl"
        tagmill("results", run, "--format", "jsonl", "-o", results, env=cluster.env)
        display.say(f"{folder.name}: {account.tagged} tagged in {account.seconds:.1f} s; the workers end")
    return Tagged(account, results, injected)


class _Disturbance:
    """Follows a run to its end, and does what is planned on the way."""

    def __init__(self, cluster: Cluster, run: int, images: int, injector: Injector, display: Display) -> None:
        self._cluster = cluster
        self._run = run
        self._images = images
        self._injector = injector
        self._display = display

    def carry_out(self, plan: Sequence[tuple[int, Fault]]) -> list[Injected]:
        """Do each fault once so many images have an outcome; return those that were done when all have one."""
        injected: list[Injected] = []
        done, since = 0, time.monotonic()
        while done < self._images or self._injector.waiting:
            self._injector.go_on()
            now = self._done()
            if now is not None and now > done:
                done, since = now, time.monotonic()
                self._display.show(done)
            if now is not None and len(injected) < len(plan) and plan[len(injected)][0] <= now < self._images:
                hit = self._injector.inject(plan[len(injected)][1])
                if hit is not None:
                    injected.append(hit)
                    self._display.fault(hit, done)
            if time.monotonic() - since > STALLED_SECONDS:
                self._display.say(f"no image in {STALLED_SECONDS:.0f} s: given up")
                break
            time.sleep(LOOK_SECONDS)
        return injected

    def _done(self) -> int | None:
        """Return the images that have an outcome, None while the database is away."""
        counted = text("SELECT count(*) FROM run_image WHERE run_id = :run AND status IN ('tagged', 'failed')")
        try:
            with reading(self._cluster.engine) as connection:
                return int(connection.execute(counted, {"run": self._run}).scalar_one())
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            return None

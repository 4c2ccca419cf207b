"""Tag one catalog with a cluster of workers, undisturbed or while faults are injected."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.audit import Audit, audit_run
from chaos.catalog import Catalog
from chaos.cluster import Cluster, Services
from chaos.display import Display
from chaos.injection import Fault, InjectedFault, Injector, draw_plan
from chaos.journal import Step, read_journal
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from support.processes import tagmill, tagmill_json

from tagmill.db.connection import reading
from tagmill.db.outages.outage import is_outage
from tagmill.settings import Settings

POLL_SECONDS = 0.05
#: without a single image in this time, the run is given up
STALLED_SECONDS = 180.0
#: a frozen worker is stopped for its lease and this much longer
BEYOND_LEASE_SECONDS = 2.0


#: it is asked for often: `run_image` would look at every entry
_WITH_OUTCOME = text("""
SELECT coalesce(sum(cardinality(array_remove(image_ids, NULL))), 0)
     + (SELECT count(*) FROM image_failure WHERE run_id = :run)
FROM batch_outcome JOIN batch ON batch.id = batch_id WHERE run_id = :run
""")


@dataclass(frozen=True)
class Setup:
    """The bundle and the workers that tag the catalog."""

    bundle: Path
    workers: int
    batch_size: int = 64
    #: settings of the workers; the others keep their defaults
    settings: Mapping[str, object] = field(default_factory=dict)
    #: additional seconds per image
    delay_per_image: float = 0.0

    @property
    def frozen_seconds(self) -> float:
        """How long a frozen worker is stopped, in seconds."""
        lease = self.settings.get("lease_seconds", Settings.model_fields["lease_seconds"].default)
        return float(str(lease)) + BEYOND_LEASE_SECONDS


@dataclass(frozen=True)
class TaggedCatalog:
    """The outcome of tagging a catalog."""

    audit: Audit
    #: JSON Lines, as `tagmill results` writes them
    results: Path
    injected: Sequence[InjectedFault]
    #: what became of each batch, by its id
    journal: Mapping[int, Sequence[Step]]


def tag_catalog(
    setup: Setup,
    catalog: Catalog,
    services: Services,
    folder: Path,
    display: Display,
    faults: Mapping[Fault, int] | None = None,
    seed: int = 0,
) -> TaggedCatalog:
    """Tag the catalog on a new database. Inject each fault as often as `faults` says, in an order drawn with `seed`."""
    images = len(catalog.images)
    display.log(f"{folder.name}: starting {setup.workers} workers")
    with Cluster(services, folder, setup.bundle, setup.workers, setup.settings, setup.delay_per_image) as cluster:
        options = ("--model", "chaos", "--batch-size", setup.batch_size, "--allow-root", catalog.root)
        run = int(tagmill_json("submit", catalog.manifest, *options, env=cluster.env)["run"])
        with display.progress(folder.name, images):
            injector = Injector(cluster, catalog.root, seed, setup.frozen_seconds)
            monitor = _RunMonitor(cluster, run, images, injector, display)
            injected = monitor.run_plan(draw_plan(images, faults or {}, seed))
        audit, journal = audit_run(cluster.engine, run, images, injected), read_journal(cluster.engine)
        results = folder / "results.jsonl"
        tagmill("results", run, "--format", "jsonl", "-o", results, env=cluster.env)
        display.log(f"{folder.name}: {audit.tagged} tagged in {audit.seconds:.1f} s; the workers end")
    return TaggedCatalog(audit, results, injected, journal)


class _RunMonitor:
    """Follows a run to its end and injects the planned faults."""

    def __init__(self, cluster: Cluster, run: int, images: int, injector: Injector, display: Display) -> None:
        self._cluster = cluster
        self._run = run
        self._images = images
        self._injector = injector
        self._display = display

    def run_plan(self, plan: Sequence[tuple[int, Fault]]) -> list[InjectedFault]:
        """Inject each fault once its number of images have an outcome. Return the faults when all images have one."""
        injected: list[InjectedFault] = []
        done, since = 0, time.monotonic()
        while done < self._images or self._injector.pending:
            self._injector.restore_due()
            now = self._done()
            if now is not None and now > done:
                done, since = now, time.monotonic()
                self._display.show_progress(done)
            if now is not None and len(injected) < len(plan) and plan[len(injected)][0] <= now < self._images:
                hit = self._injector.inject(plan[len(injected)][1])
                if hit is not None:
                    injected.append(hit)
                    self._display.log_fault(hit, done)
            if time.monotonic() - since > STALLED_SECONDS:
                self._display.log(f"no image in {STALLED_SECONDS:.0f} s: given up")
                break
            time.sleep(POLL_SECONDS)
        return injected

    def _done(self) -> int | None:
        """Return the number of images that have an outcome, or None while the database is down."""
        try:
            with reading(self._cluster.engine) as connection:
                return int(connection.execute(_WITH_OUTCOME, {"run": self._run}).scalar_one())
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            return None

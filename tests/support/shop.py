"""A worker in this process, with a registered model and a folder of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from producer.sources.open import open_sources
from tagmill.broker.message import BatchMessage
from tagmill.bundles.metadata import BundleSpec, sha256_of
from tagmill.fetch_options import FETCH_ALL, FetchOptions
from tagmill.ledger.runs.create import create_run
from tagmill.ledger.runs.progress import RunProgress, run_progress
from tagmill.records import Entry
from tagmill.registry.models import Model, register
from tagmill.registry.open_store import open_store
from tagmill.settings import Settings
from worker.batch import BatchProcessor, ProcessHooks
from worker.connections.availability import Services
from worker.inference.session import Session
from worker.pipeline.tagger import build_tagger
from worker.probes.batch_metrics import BatchMetrics


class Shop:
    """A folder of images, a registered model, and the batch processor of a worker, in this process."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        bundle: Path,
        unfit: Callable[[], object] | None = None,
        metrics: BatchMetrics | None = None,
        **more: Any,
    ) -> None:
        """`unfit` is called if the worker cannot work; by default nothing looks after that. `more` are settings."""
        self.engine = engine
        self.folder = folder
        #: whether runs name the model without a version
        self.named_alone = True
        url = engine.url.render_as_string(hide_password=False)
        store = self.folder.parent / "models"
        base: dict[str, Any] = {"database_url": url, "model_store": store, "allow_private_hosts": True}
        self.settings = Settings(**base | {"max_image_pixels": 10_000_000} | more)
        self.model = self.register(bundle)
        hooks = ProcessHooks(Services(), lambda reason: None, supervised=False, unfit=unfit, metrics=metrics)
        self.batches = BatchProcessor(self.settings, build_tagger(self.settings, open_store(self.settings)), hooks)

    def register(self, bundle: Path, name: str | None = None) -> Model:
        """Register a bundle; `model` is what runs are tagged with."""
        session = Session(bundle, "cpu", 1)
        spec: BundleSpec = session.spec
        open_store(self.settings).add(bundle, sha256_of(bundle))
        return register(self.engine, spec, session.sha256, name)

    def tag(self, entries: list[Entry] | None = None, *roots: str, fetching: FetchOptions = FETCH_ALL) -> RunProgress:
        """Run the folder, or these entries, through the worker in batches of 64. `roots` may be read, too."""
        given = list(open_sources([str(self.folder)])) if entries is None else entries
        run = (self.engine, "test", given, [self.model], [self.folder, *roots], 64, "tagmill")
        run_id = create_run(*run, fetching=fetching, following=[self.model] if self.named_alone else ())
        with self.engine.connect() as connection:
            ids = connection.execute(text(f"SELECT id FROM batch WHERE run_id = {run_id} ORDER BY seq")).scalars().all()
        for batch_id in ids:
            self.batches.process(BatchMessage(run_id, batch_id))
        return run_progress(self.engine, run_id)

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Return what SQL answers."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

"""A new database with one registered model, and the runs that the producer submits to it."""

from collections.abc import Sequence
from pathlib import Path

from support.services import create_database, drop_database

from benchmarks.support.fleet.load import Load, Place, Servers
from producer.publish import publish_run
from tagmill.broker.app import make_app
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.runs.create import create_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.records import Entry
from tagmill.registry.models import register
from tagmill.settings import Settings
from tagmill.tasks.classify import CLASSIFY

MODEL = "f" * 64


class Site:
    """A new database with one registered model, and a queue."""

    def __init__(self, servers: Servers, queue: str, load: Load) -> None:
        self.servers, self.load = servers, load
        self.place = Place(create_database(servers.database), servers.broker, queue, MODEL)
        self._engine = connect(self.place.database_url)
        upgrade(self._engine)
        #: batches of the last submission
        self.batches = 0
        self._model = register(self._engine, BundleSpec("fleet", CLASSIFY, ("a",), PreprocessSpec(8, 8)), MODEL)
        self._app = make_app(Settings(database_url=self.place.database_url, broker_url=servers.broker, queue=queue))

    def submit(self) -> list[int]:
        """Create and publish the runs; return their ids. A second call submits the same images again."""
        shares = [range(first, self.load.images, self.load.runs) for first in range(self.load.runs)]
        ids = [self._create_run(share) for share in shares]
        self.batches = sum(publish_run(self._app, self._engine, run_id) for run_id in ids)
        return ids

    def tagged(self, ids: Sequence[int]) -> int:
        """Return the number of tagged images of these runs."""
        return sum(run_progress(self._engine, run_id).tagged for run_id in ids)

    def close(self) -> None:
        """Drop the database."""
        self._app.close()
        self._engine.dispose()
        drop_database(self.servers.database, self.place.database_url)

    def _create_run(self, numbers: Sequence[int]) -> int:
        entries = (Entry(f"sku-{number:09d}", f"/catalog/pictures/{number:09d}.jpg") for number in numbers)
        roots, queue = [Path("/catalog")], self.place.queue
        return create_run(self._engine, "fleet", entries, [self._model], roots, self.load.batch_size, queue)

"""What a worker says of what others lack, on both databases."""

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from support.ledger import QUEUE, batches, new_model, take
from support.s3_server import S3Server

from tagmill.db.connection import connect
from tagmill.ledger.faults.runs import RunFault, Standing, report_run_fault, subject_of
from tagmill.ledger.faults.workers import Fault, FaultReason
from tagmill.ledger.runs.create import create_run
from tagmill.ledger.runs.publishing import take_unpublished
from tagmill.records import Entry
from tagmill.registry import download
from tagmill.registry.models import Model
from tagmill.registry.store import StoreDownError
from tagmill.settings import Settings
from worker.health import health as health_module
from worker.health.health import Health, call_once


class Shop:
    """A run over a folder of two files, and a worker's health."""

    def __init__(self, engine: Engine, folder: Path, store: str = "") -> None:
        self.engine = engine
        self.folder = folder / "shop"
        self.folder.mkdir()
        for name in ("a.jpg", "b.jpg"):
            (self.folder / name).write_bytes(b"x")
        self.model: Model = new_model(engine)
        entries = [Entry(name, str(self.folder / name)) for name in ("a.jpg", "b.jpg")]
        self.run = create_run(engine, "test", entries, [self.model], [self.folder], 1, QUEUE)
        while take_unpublished(engine, self.run):
            pass
        self.ended = 0
        self.loaded: set[str] = set()
        settings = Settings(model_store=store or folder / "models", queue=QUEUE, cache_folder=folder / "cache")
        self.health = Health(settings, partial(call_once, engine), self._end, lambda: self.loaded)

    def _end(self) -> None:
        self.ended += 1

    def add_bundle(self) -> Path:
        """Put the file of the model into the store. Its sha256 is not the registered one."""
        bundle = self.health._store._folder / f"{self.model.sha256}.onnx"
        bundle.parent.mkdir()
        bundle.write_bytes(b"x")
        return bundle

    def report(self, fault: RunFault, age: float = 0.0) -> Standing:
        """Report a fault as another worker does; before that, let what is known of it be older."""
        with self.engine.begin() as connection:
            changed = "since = since - :age, found_at = found_at - :age"
            connection.execute(text(f"UPDATE run_fault SET {changed}"), {"age": age})
        return report_run_fault(self.engine, fault, 60)[0]

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    @property
    def missing(self) -> RunFault:
        """The fault of a worker that lacks the folder."""
        path = str(self.folder / "a.jpg")
        return RunFault(FaultReason.FOLDER, "is empty", self.run, subject_of(str(self.folder)), path)


@pytest.fixture
def shop(engine: Engine, tmp_path: Path) -> Shop:
    return Shop(engine, tmp_path)


def test_a_worker_says_that_it_has_what_another_lacks_and_releases_what_was_held(shop: Shop) -> None:
    assert shop.report(shop.missing) is Standing.OUT
    shop.health.look()
    assert shop.report(shop.missing, age=8) is Standing.OUT
    shop.health.look()
    assert shop.report(shop.missing, age=8) is Standing.OUT
    assert shop.report(shop.missing, age=8) is Standing.HELD
    shop.health.look()
    assert shop.rows("SELECT * FROM run_fault") == []
    assert shop.ended == 0


def test_a_worker_that_lacks_what_another_lacks_is_taken_out_before_it_takes_a_batch_of_it(shop: Shop) -> None:
    shop.report(shop.missing)
    for file in shop.folder.iterdir():
        file.unlink()
    shop.health.look()
    assert (shop.ended, shop.health.out) == (1, True)
    assert shop.rows("SELECT reason, detail FROM worker_fault") == [
        ("folder", f"{shop.folder}: is empty on this worker; mount it at this path")
    ]
    # Once no worker has it, being out helps nobody.
    assert shop.report(shop.missing, age=16) is Standing.HELD
    shop.health.look()
    assert shop.ended == 1


def test_a_worker_whose_files_cannot_be_read_does_not_say_that_it_has_them(shop: Shop) -> None:
    for name in ("a.jpg", "b.jpg"):
        (shop.folder / name).unlink()
        (shop.folder / name).mkdir()
    shop.report(shop.missing)
    shop.health.look()
    assert shop.rows("SELECT found_at FROM run_fault") == [(None,)]
    assert shop.ended == 1


def test_a_bundle_that_cannot_be_loaded_is_had_only_by_a_worker_that_has_loaded_it(shop: Shop) -> None:
    fault = RunFault(FaultReason.BUNDLE, "answers differ", shop.run, shop.model.sha256)
    shop.report(fault)
    shop.health.look()
    assert shop.rows("SELECT found_at FROM run_fault") == [(None,)]
    shop.loaded.add(shop.model.sha256)
    shop.health.look()
    assert shop.rows("SELECT found_at FROM run_fault") != [(None,)]
    assert shop.ended == 0


def test_a_worker_is_checked_for_the_runs_that_wait(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shop.health.check()
    ((reason, detail),) = shop.rows("SELECT reason, detail FROM worker_fault")
    assert reason == "store"
    assert "is missing; share TAGMILL_MODEL_STORE with this worker" in str(detail)
    bundle = shop.add_bundle()
    assert not shop.health.check()
    monkeypatch.setattr("tagmill.registry.store.sha256_of", lambda path: shop.model.sha256)
    bundle.write_bytes(b"the bundle")
    assert shop.health.check()
    for file in shop.folder.iterdir():
        file.unlink()
    assert not shop.health.check()
    assert shop.rows("SELECT reason FROM worker_fault") == [("folder",)]
    (shop.folder / "b.jpg").write_bytes(b"x")  # another file of the folder
    assert shop.health.check()
    monkeypatch.setattr(health_module, "PROVEN_SECONDS", -1.0)
    shop.health.look()
    assert shop.rows("SELECT * FROM worker_fault") == []


def test_a_database_that_is_down_says_nothing_of_the_worker(shop: Shop, postgres_url: str) -> None:
    gone = connect(postgres_url.replace("postgresql+psycopg", "postgresql").replace("t_", "gone_"))
    health = Health(Settings(), partial(call_once, gone))
    assert health.check()
    health.take_out(Fault(FaultReason.CLOCK, "set it"))
    assert health.out
    gone.dispose()


def test_a_model_store_that_is_down_says_nothing_of_the_worker_nor_of_the_bundle(
    engine: Engine, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PAUSES", ())
    monkeypatch.setattr("tagmill.stores.whole_file.RETRIES", 0)
    shop = Shop(engine, tmp_path, "s3://models/")
    fault = RunFault(FaultReason.STORE, "is missing", shop.run, shop.model.sha256)
    assert shop.report(fault) is Standing.OUT
    s3_server.refuse(f"/models/{shop.model.sha256}.onnx", 503, "SlowDown", times=3)
    assert shop.health.check()
    shop.health.look()
    assert shop.ended == 0
    assert shop.rows("SELECT found_at FROM run_fault") == [(None,)]
    claimed = take(engine, batches(engine, shop.run)[0])
    assert claimed is not None
    back = shop.health.give_back(claimed, StoreDownError("s3://models/: no connection"))
    assert back is not None
    assert back.not_before is not None
    assert shop.ended == 0
    assert not shop.health.check()  # now the store says that there is no such bundle
